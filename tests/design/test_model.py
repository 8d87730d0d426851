"""The link model reads cells as graphs, whatever the order of their vertices."""

import pytest
import torch
from design.conftest import cells

from onnx_bench_dataset.design.model import LinkModel, blank, operations, written
from onnx_bench_dataset.spaces.nasbench101 import parse

CELL = "conv3x3-bn-relu:0 maxpool3x3:0 conv1x1-bn-relu:1 output:2,3"
TWIN = "maxpool3x3:0 conv3x3-bn-relu:0 conv1x1-bn-relu:2 output:1,3"


def model(**options):
    torch.manual_seed(0)
    return LinkModel(**options).eval()


def weights(made, *architectures):
    batch = written([parse(architecture) for architecture in architectures])
    with torch.no_grad():
        return batch.mean_per_cell(made(batch)[0])


def test_isomorphic_cells_weigh_the_same():
    assert torch.allclose(*weights(model(), CELL, TWIN), atol=1e-6)


def test_cells_in_a_batch_do_not_see_each_other():
    some = list(cells(5).values())
    alone = torch.cat([model()(written([cell]))[0] for cell in some])
    assert torch.allclose(model()(written(some))[0], alone, atol=1e-5)


def test_with_feedback_a_vertex_perceives_what_comes_behind_it():
    long = parse("conv3x3-bn-relu:0 conv3x3-bn-relu:1 maxpool3x3:2 conv3x3-bn-relu:3 output:4")
    other = parse("conv3x3-bn-relu:0 conv3x3-bn-relu:1 maxpool3x3:2 maxpool3x3:3 output:4")

    def first_link(made):
        return [made(written([cell]))[0][0].item() for cell in (long, other)]

    one, another = first_link(model(depth=4))
    assert one != another
    one, another = first_link(model(depth=4, feedback=False))
    assert one == another


def test_a_blank_cell_shows_its_number_of_vertices_alone():
    batch = blank([parse(CELL), parse(TWIN)])
    links, kinds = model()(batch)
    assert torch.allclose(*links.reshape(2, -1))
    assert torch.allclose(*kinds.reshape(2, 5, 3))
    assert batch.is_linked.reshape(2, -1).sum(1).tolist() == [5, 5]


def test_a_vertex_of_a_blank_cell_perceives_its_position():
    _, kinds = model()(blank([parse(CELL)]))
    assert len({tuple(row) for row in kinds.tolist()}) == 5
    assert kinds[1:-1].std(0).min() > 1e-4


def test_missing_links_are_asked_about_where_wanted():
    batch = written([parse(CELL)], missing=True)
    assert batch.is_linked.tolist().count(True) == 5
    assert len(batch.is_linked) == 10
    assert written([parse(CELL)]).is_linked.all()


def test_operations_are_numbered_and_ends_are_not():
    assert operations([parse(CELL)]).tolist() == [-1, 0, 2, 1, -1]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_layers_can_be_chosen(depth):
    assert len(model(depth=depth).attention) == depth
