"""Pictures: what they show of an architecture, that nothing overlaps or is cut, and their command."""

import io
import random
import sys
from collections import Counter
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnx_bench_dataset import spaces
from onnx_bench_dataset.cli import commands, viewing
from onnx_bench_dataset.drawing import (
    Diagram,
    Edge,
    Kind,
    Node,
    Panel,
    chain,
    draw,
    figure,
    layout,
    network_diagram,
)
from onnx_bench_dataset.errors import ArchitectureError, OnnxBenchError, TextError, UnsupportedModelError
from onnx_bench_dataset.text import decode, encode

CELL = "conv1x1-bn-relu:0 conv3x3-bn-relu:0 maxpool3x3:1,2 output:0,3"
SPACES_OF_DIGITS = ("nasbench101", "natsbench_size", "nasbench301", "hnasbench201")
EDGES = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"


def sample(space):
    """Some architectures of a space."""
    if space == "nasbench101":  # to list them takes long
        return [CELL, "output:0"]
    if space == "digits":
        return [f"{name}:{each}" for name in SPACES_OF_DIGITS for each in sample(name)[:1]]
    return spaces.get(space).sample(3, 3)


def random_panel(seed):
    """A graph of any shape, with and without labels on its edges."""
    choose = random.Random(seed)
    count = choose.randint(1, 40)
    nodes = [Node("operation " * choose.randint(1, 2) + str(number), Kind.OTHER) for number in range(count)]
    edges = {
        (choose.randrange(target), target): Edge(0, target)
        for target in range(1, count)
        for _ in range(choose.randint(1, 3))
    }
    labelled = choose.random() < 0.5
    return Panel(
        nodes, [Edge(*ends, "label", Kind.SKIP) if labelled else Edge(*ends) for ends in edges], "title"
    )


def diagrams():
    """Pictures of every space, of networks, and of random graphs."""
    for space in spaces.SPACES:
        for architecture in sample(space):
            yield pytest.param(spaces.get(space).diagram(architecture), id=space)
    yield pytest.param(
        network_diagram(spaces.get("nasbench301").network(sample("nasbench301")[0]).text), id="network"
    )
    for seed in range(8):
        yield pytest.param(Diagram([random_panel(seed)]), id=f"random {seed}")
    yield pytest.param(Diagram([random_panel(seed) for seed in range(20, 27)], has_legend=True), id="panels")
    yield pytest.param(Diagram([chain([Node(f"layer {number}") for number in range(80)])]), id="long chain")


DIAGRAMS = list(diagrams())


def rectangles(drawn):
    """Left, top, right, bottom of the boxes of a panel."""
    for box, (x, y) in zip(drawn.boxes, drawn.layout.centres, strict=True):
        yield x - box.size.width / 2, y - box.size.height / 2, x + box.size.width / 2, y + box.size.height / 2


def overlap(one, two):
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


@pytest.mark.parametrize("diagram", DIAGRAMS)
def test_nothing_overlaps_and_nothing_is_cut_and_lines_lead_from_box_to_box(diagram):
    picture = figure._Picture(diagram)
    for drawn in picture._panels:
        boxes = list(rectangles(drawn))
        assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
        width, height = drawn.layout.size
        for left, top, right, bottom in boxes:
            assert -0.01 <= left < right <= width + 0.01
            assert -0.01 <= top < bottom <= height + 0.01
        for box in drawn.boxes:
            assert figure._text_width(box.label) <= box.size.width - 4
        for route in drawn.layout.routes:
            for x, y in route.points[1:-1]:  # lines run beside the boxes of the layers that they pass
                assert not [box for box in boxes if overlap(box, (x, y, x, y))]
                assert -0.01 <= y <= height + 0.01
            assert {route.points[0], route.points[-1]} <= set(drawn.layout.centres)
            heights = [y for _, y in route.points]
            assert route.is_angular or heights == sorted(heights)  # downwards, unless to another column
    panels = [
        (x, y, x + drawn.size.width, y + drawn.size.height)
        for drawn, (x, y) in zip(picture._panels, picture._corners, strict=True)
    ]
    assert not [pair for pair in combinations(panels, 2) if overlap(*pair)]
    assert all(right <= picture.width and bottom <= picture.height for *_, right, bottom in panels)
    for kind, (x, y) in zip(picture._legend, picture._legend_places, strict=True):
        assert x + figure._text_width(kind.title) < picture.width
        assert picture._legend_top + y < picture.height


def test_a_long_network_is_broken_into_columns():
    size = figure._Picture(Diagram([chain([Node(f"layer {number}") for number in range(150)])]))
    assert 0.5 < size.width / size.height < 2
    assert len({x for x, _ in size._panels[0].layout.centres}) > 5


def test_a_picture_is_the_same_every_time_and_of_the_promised_size():
    diagram = spaces.get("nasbench201").diagram(EDGES)
    content = draw(diagram)
    assert content == draw(diagram)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert max(image.size) <= figure.LEAST_SIDE
        assert len(image.convert("RGB").getcolors()) > 10
    assert len(content) < 20_000
    large = draw(Diagram([random_panel(seed) for seed in range(5)]))
    with Image.open(io.BytesIO(large)) as image:
        assert figure.LEAST_SIDE < max(image.size) <= figure.MOST_SIDE + 1


@pytest.mark.parametrize("form", figure.FORMATS)
def test_a_picture_does_not_depend_on_the_settings_of_matplotlib(form):
    diagram = spaces.get("nasbench201").diagram(EDGES)
    settings = {
        "font.family": ["serif"],
        "text.hinting": "default",
        "savefig.facecolor": "red",
        "svg.hashsalt": "x",
        "lines.linewidth": 9,
        "text.color": "red",
    }
    with matplotlib.rc_context(settings):
        content = draw(diagram, form)
    assert content == draw(diagram, form)


def test_svg_is_the_same_every_time_and_well_formed():
    diagram = spaces.get("nasbench201").diagram(EDGES)
    content = draw(diagram, "svg")
    assert content == draw(diagram, "svg")
    assert ElementTree.fromstring(content).tag.endswith("svg")


def test_nasbench101_shows_vertices_and_edges():
    (panel,) = spaces.get("nasbench101").diagram(CELL).panels
    assert [node.label for node in panel.nodes] == ["input", "conv 1×1", "conv 3×3", "max pool 3×3", "output"]
    assert {(edge.source, edge.target) for edge in panel.edges} == {
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 3),
        (0, 4),
        (3, 4),
    }


def test_nasbench201_shows_operations_on_edges():
    (panel,) = spaces.get("nasbench201").diagram(EDGES).panels
    assert [node.label for node in panel.nodes] == ["0", "1", "2", "3"]
    assert {(edge.source, edge.target): edge.label for edge in panel.edges} == {
        (0, 1): "conv 3×3",
        (0, 2): "none",
        (1, 2): "avg pool 3×3",
        (0, 3): "skip",
        (1, 3): "conv 1×1",
        (2, 3): "none",
    }


def test_nasbench301_shows_both_cells():
    edges = (
        "[('sep_conv_3x3', 0), ('skip_connect', 1)" + ", ('dil_conv_5x5', 0), ('max_pool_3x3', 2)" * 3 + "]"
    )
    cells = ", ".join(f"{kind}={edges}, {kind}_concat=[2, 3, 4, 5]" for kind in ("normal", "reduce"))
    normal, reduction = spaces.get("nasbench301").diagram(f"Genotype({cells})").panels
    assert (normal.title, reduction.title) == ("normal cell", "reduction cell")
    assert [node.label for node in normal.nodes] == ["cₖ₋₂", "cₖ₋₁", "0", "1", "2", "3", "cₖ"]
    labelled = [(edge.source, edge.target, edge.label) for edge in normal.edges if edge.label]
    assert labelled[:3] == [(0, 2, "sep conv 3×3"), (1, 2, "skip"), (0, 3, "dil conv 5×5")]
    assert [(edge.source, edge.target) for edge in normal.edges if not edge.label] == [
        (n, 6) for n in range(2, 6)
    ]


def test_size_and_macro_spaces_show_layers_with_their_widths():
    (panel,) = spaces.get("natsbench_size").diagram("8:16:24:32:64").panels
    labels = ["input", "conv 3×3, 8", "cell, 8", "residual /2, 16", "cell, 24", "residual /2, 32", "cell, 64"]
    assert [node.label for node in panel.nodes] == [*labels, "classifier"]
    assert [node.width for node in panel.nodes[2:7]] == [8 / 64, 16 / 64, 24 / 64, 32 / 64, 1]
    (panel,) = spaces.get("nasbench_macro").diagram("02012100").panels
    assert [node.label for node in panel.nodes[2:10]] == [
        "conv 1×1 /2, 64",
        "MB6 5×5",
        "conv 1×1 /2, 128",
        "MB3 3×3",
        "MB6 5×5",
        "MB3 3×3 /2, 256",
        "identity",
        "identity",
    ]


def test_transnasbench101_shows_modules_and_in_the_micro_space_the_cell():
    (panel,) = spaces.get("transnasbench101").diagram("64-1234-basic").panels
    assert [node.label for node in panel.nodes[1:-1]] == [
        "stem /4, 64",
        "2 blocks, 64",
        "2 blocks, 128",
        "2 blocks /2, 128",
        "2 blocks /2, 256",
    ]
    cell, network = spaces.get("transnasbench101").diagram("64-41414-1_02_333").panels
    assert [edge.label for edge in cell.edges] == ["skip", "none", "conv 1×1", *["conv 3×3"] * 3]
    assert network.nodes[-2].label == "2 cells /2, 512"


def test_hnasbench201_shows_the_wiring_and_each_different_cell():
    def cell(*operations):
        return f"(CELL Cell {' '.join(f'(OPS {operation})' for operation in operations)})"

    block = "Linear1 (CONVBLOCK Linear3 (ACT mish) (CONV dconv3x3o) (NORM layer))"
    one = cell("id", "zero", "avg_pool", block, "id", "zero")
    other = cell(*["id"] * 6)
    two, down = f"(C Linear2 {one} {other})", f"(DOWN Residual2 {one} resBlock resBlock)"
    halved, last = f"(D1 Linear3 {two} {two} {down})", f"(D0 Linear3 {two} {two} {one})"
    network, first, second = (
        spaces.get("hnasbench201").diagram(f"(D2 Linear3 {halved} {halved} {last})").panels
    )
    assert [edge.label for edge in first.edges] == [
        "skip",
        "none",
        "avg pool 3×3",
        "Mish, depthwise 3×3, layer",
        "skip",
        "none",
    ]
    assert {edge.label for edge in second.edges} == {"skip"}
    assert (first.title, second.title) == ("cell A", "cell B")
    labels = Counter(edge.label for edge in network.edges)
    assert labels == {"cell A": 9, "cell B": 6, "residual /2": 4}
    assert network.nodes[0].label == "stem"
    assert network.nodes[-1].label == "classifier"
    assert all(edge.source < edge.target for edge in network.edges)


def test_digits_shows_what_the_small_spaces_show():
    digits = spaces.get("digits")
    assert digits.diagram(f"nasbench201:{EDGES}") == spaces.get("nasbench201").diagram(EDGES)
    (panel,) = digits.diagram("natsbench_size:8:16:24:32:64").panels
    assert [node.label for node in panel.nodes[2:4]] == ["cell, 2", "residual /2, 4"]


def test_an_operation_has_the_same_colour_in_every_space():
    network = spaces.get("nasbench201").network(EDGES.replace("none~2", "nor_conv_3x3~2")).text
    kinds = {
        "nasbench101": {node.kind for node in spaces.get("nasbench101").diagram(CELL).panels[0].nodes},
        "nasbench201": {edge.kind for edge in spaces.get("nasbench201").diagram(EDGES).panels[0].edges},
        "transnasbench101": {
            edge.kind for edge in spaces.get("transnasbench101").diagram("64-41414-1_02_333").panels[0].edges
        },
        "any network": {node.kind for panel in network_diagram(network).panels for node in panel.nodes},
    }
    for found in kinds.values():
        assert {Kind.CONV_1X1, Kind.CONV_3X3} <= found
    assert len({kind.colour for kind in Kind}) == len(Kind)


@pytest.mark.parametrize("space", list(spaces.SPACES))
def test_a_string_that_is_no_architecture_has_no_picture(space):
    with pytest.raises(ArchitectureError):
        spaces.get(space).diagram("nothing")


def test_a_network_shows_every_operation_and_what_it_reads():
    model = spaces.get("einspace").model(spaces.get("einspace").sample(1, 5)[0])
    text = encode(model)
    graph = decode(text).graph
    if "@" in text:
        pytest.fail("this test wants a network without blocks")
    maker = {name: number for number, node in enumerate(graph.node) for name in node.output}
    read = {
        (maker[name], number)
        for number, node in enumerate(graph.node)
        for name in node.input
        if name in maker
    }
    (panel,) = network_diagram(text).panels
    assert panel.nodes[0].label == "input 3×32×32"
    assert panel.nodes[-1].label == "output"
    assert len(panel.nodes) == len(graph.node) + 2
    drawn = {(edge.source - 1, edge.target - 1) for edge in panel.edges}
    last = len(graph.node)
    assert {pair for pair in drawn if pair[0] >= 0 and pair[1] < last} == read


FOLDED = """onnx-net 1
opset 18
input [1,3,8,8]
@A(a):
 Relu 1
 Conv 1 w[a,a,3,3] w[a] pads=[1,1,1,1]
 Add 1 3
@B:
 MaxPool 1 kernel_shape=[2,2] strides=[2,2]
 Mul 1 1
 Add 1 4
Conv $0 w[16,3,1,1]
@A(16)*5
Conv 2 w[16,1,5,5] group=16 pads=[2,2,2,2]
Conv 1 w[32,16,3,3] dilations=[2,2] pads=[2,2,2,2] strides=[2,2]
@A(32)
@B
Flatten 1
Gemm 1 w[10,512] transB=1
output 1 3"""


def test_blocks_are_drawn_once_and_used_with_a_count():
    network, block, other = network_diagram(FOLDED).panels
    assert [node.label for node in network.nodes] == [
        "input 3×8×8",
        "conv 1×1, 16",
        "block A(16)  ×5",
        "depthwise 5×5, 16",
        "dilated 3×3 /2, 32",
        "block A(32)",
        "block B",
        "Flatten",
        "linear 10",
        "output",
        "output",
    ]
    edges = {(edge.source, edge.target) for edge in network.edges}
    assert edges == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (6, 10)}
    assert block.title == "A(a)"
    assert [node.label for node in block.nodes] == ["in", "ReLU", "conv 3×3, a", "+"]
    assert {(edge.source, edge.target) for edge in block.edges} == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert [node.label for node in other.nodes] == ["in", "max pool 2×2 /2", "×", "2 before", "+"]
    assert network_diagram(FOLDED).has_legend


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@A(32)", "@C(32)"),
        ("Conv 2 w[16,1,5,5]", "Conv 99 w[16,1,5,5]"),
        ("Conv $0", "Conv $7"),
        ("@A(16)*5", "@A(16)*99999"),
        ("onnx-net 1", "onnx-net 9"),
    ],
)
def test_a_broken_text_is_one_error(old, new):
    with pytest.raises(TextError):
        network_diagram(FOLDED.replace(old, new))


def test_a_network_too_large_to_be_read_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"1,501 operations cannot be read.*onnx-bench show"):
        draw(Diagram([chain([Node("layer")] * 1_501)]))
    nodes = [Node("layer")] * 400
    edges = [Edge(source, source + 1) for source in range(399)]
    edges += [Edge(source, 399) for source in range(300)]
    with pytest.raises(UnsupportedModelError, match="too many long connections"):
        draw(Diagram([Panel(nodes, edges)]))


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(OnnxBenchError, match=r"pip install 'onnx-bench-dataset\[draw\]'"):
        draw(spaces.get("nasbench201").diagram(EDGES))


def test_unknown_formats_are_refused():
    with pytest.raises(OnnxBenchError, match="png or svg"):
        draw(Diagram([chain([Node("a")])]), "jpg")


def test_layers_of_a_small_graph_are_ordered_so_that_no_edge_crosses():
    sizes = [layout.Size(20, 20)] * 6
    found = layout.arrange(sizes, [(0, 3), (1, 2), (2, 4), (3, 5)])
    x = [point[0] for point in found.centres]
    assert (x[0] - x[1]) * (x[3] - x[2]) > 0
    assert (x[3] - x[2]) * (x[5] - x[4]) > 0


def run(*arguments):
    return CliRunner().invoke(commands.app, ["draw", *arguments])


@pytest.fixture
def row(monkeypatch):
    """The row that a data set has."""
    row = {
        "space": "nasbench201",
        "architecture": EDGES,
        "text": spaces.get("nasbench201").network(EDGES).text,
    }
    monkeypatch.setattr(viewing, "load_row", lambda id, data: row)
    return row


def test_the_command_draws_the_architecture_of_a_row_or_its_network(row, tmp_path):
    assert run("nasbench201/1", "--out", str(tmp_path / "cell.png")).exit_code == 0
    assert (tmp_path / "cell.png").read_bytes() == draw(spaces.get("nasbench201").diagram(EDGES))
    assert run("nasbench201/1", "--network", "--out", str(tmp_path / "network.SVG")).exit_code == 0
    assert (tmp_path / "network.SVG").read_bytes() == draw(network_diagram(row["text"]), "svg")


@pytest.mark.parametrize("change", [{"architecture": "nets/a"}, {"space": "my_models"}])
def test_imported_rows_are_drawn_from_their_text(row, change, tmp_path):
    row.update(change)
    assert run("nasbench201/1", "--out", str(tmp_path / "a.png")).exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == draw(network_diagram(row["text"]))


def test_the_command_draws_an_onnx_file(tmp_path):
    model = spaces.get("nasbench201").model(EDGES)
    onnx.save_model(model, tmp_path / "net.onnx")
    assert run(str(tmp_path / "net.onnx"), "--out", str(tmp_path / "net.png")).exit_code == 0
    assert (tmp_path / "net.png").read_bytes() == draw(network_diagram(encode(model)))


def test_other_endings_and_files_that_are_there_are_refused(row, tmp_path):
    refused = run("nasbench201/1", "--out", str(tmp_path / "a.jpg"))
    assert (refused.exit_code, "must end in .png or .svg" in refused.stderr) == (1, True)
    (tmp_path / "a.png").write_text("mine")
    refused = run("nasbench201/1", "--out", str(tmp_path / "a.png"))
    assert (refused.exit_code, "--force" in refused.stderr) == (1, True)
    assert (tmp_path / "a.png").read_text() == "mine"
    assert run("nasbench201/1", "--out", str(tmp_path / "a.png"), "--force").exit_code == 0
