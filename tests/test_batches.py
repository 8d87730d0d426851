"""Batches: graphs are those that texts describe, tokens the tokenizer's, and nothing is cut in silence."""

import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from onnx import helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.data import DataLoader
from torch_geometric.nn import GCNConv, global_add_pool

from onnx_bench_dataset import spaces
from onnx_bench_dataset.batches import FEATURES, NUM_TYPES, OPERATIONS, GraphBatches, TokenBatches, read_nodes
from onnx_bench_dataset.errors import LoadError, OnnxBenchError, TextError
from onnx_bench_dataset.graphs.graph import Graph
from onnx_bench_dataset.graphs.inference import infer_types
from onnx_bench_dataset.graphs.shapes import tensor_type
from onnx_bench_dataset.text import decode, encode

SPACES = ["nasbench101", "nasbench201", "nasbench301", "natsbench_size", "nasbench_macro", "einspace"]


CELLS = ("conv3x3-bn-relu:0 maxpool3x3:0,1 output:0,2", "conv1x1-bn-relu:0 conv3x3-bn-relu:0,1 output:1,2")


def text_of(space, seed=0):
    drawn = CELLS[seed] if space == "nasbench101" else spaces.get(space).sample(1, seed)[0]
    return encode(spaces.get(space).model(drawn))


@pytest.fixture(scope="module")
def rows():
    """A row of each of several spaces; the last has no accuracy."""
    made = [
        {"id": f"{space}/{number}", "text": text_of(space), "accuracy": 90.0 + number}
        for number, space in enumerate(SPACES)
    ]
    made[-1]["accuracy"] = None
    return made


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", [0, 1])
def test_nodes_and_edges_are_those_of_the_decoded_model(space, seed):
    text = text_of(space, seed)
    graph, nodes = Graph.from_model(decode(text)), read_nodes(text)
    produced = {name: number for number, node in enumerate(graph.nodes) for name in node.outputs}
    assert [OPERATIONS[node.type - 1] for node in nodes] == [node.op for node in graph.nodes]
    for read, node in zip(nodes, graph.nodes, strict=True):
        assert read.sources == [produced[name] for name in node.inputs if name in produced]


@pytest.mark.parametrize("space", [space for space in SPACES if space != "einspace"])
def test_sizes_are_those_of_shape_inference(space):
    text = text_of(space)
    graph = Graph.from_model(decode(text))
    types = infer_types(graph, strict=True)
    for read, node in zip(read_nodes(text), graph.nodes, strict=True):
        if node.op == "Slice":
            continue
        shape = tensor_type(types[node.outputs[0]]).shape
        _, channels, height, width = (*shape, 1, 1)[:4]
        assert read.features[:3] == pytest.approx([math.log(size) for size in (channels, height, width)])


def test_windows_and_groups_are_features():
    nodes = read_nodes(
        "onnx-net 1\nopset 18\ninput [1,8,32,32]\n"
        "Conv $0 w[8,2,5,3] dilations=[2,2] group=4 pads=[4,2,4,2] strides=[2,1]\n"
        "MaxPool 1 ceil_mode=1 kernel_shape=[2,2] strides=[3,3]\n"
        "Flatten 1\noutput 1"
    )
    sizes = [[round(math.exp(value)) for value in node.features] for node in nodes]
    assert [dict(zip(FEATURES, size, strict=True)) for size in sizes[:1]] == [
        {"channels": 8, "height": 16, "width": 32, "kernel": 15, "stride": 2, "dilation": 4, "groups": 4}
    ]
    assert sizes[1] == [8, 6, 11, 4, 9, 1, 1]
    assert sizes[2] == [8 * 6 * 11, 1, 1, 1, 1, 1, 1]


def test_a_graph_batch_feeds_a_graph_network(rows):
    batch = GraphBatches()(rows)
    counts = [len(read_nodes(row["text"])) for row in rows]
    assert batch.num_graphs == len(rows)
    assert batch.x.shape == (sum(counts),)
    assert batch.features.shape == (sum(counts), len(FEATURES))
    assert batch.ptr.diff().tolist() == counts
    assert batch.id == [row["id"] for row in rows]
    assert batch.y[:-1].tolist() == [row["accuracy"] for row in rows[:-1]]
    assert math.isnan(batch.y[-1])
    ends = batch.batch[batch.edge_index]
    assert torch.equal(ends[0], ends[1])
    assert (batch.edge_index[0] < batch.edge_index[1]).all()
    assert batch.x.max() < NUM_TYPES
    embedded = torch.nn.Embedding(NUM_TYPES, 4)(batch.x)
    hidden = GCNConv(4 + len(FEATURES), 8)(torch.cat([embedded, batch.features], 1), batch.edge_index)
    assert global_add_pool(hidden, batch.batch).shape == (len(rows), 8)


def test_unknown_operations_have_type_0():
    assert len(set(OPERATIONS)) == len(OPERATIONS) == NUM_TYPES - 1
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"], domain="com.example"),
            helper.make_node("Celu", ["b"], ["y"]),
        ],
        "unknown",
        [helper.make_tensor_value_info("x", 1, [1, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 8])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    text = encode(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    assert [node.type for node in read_nodes(text)] == [OPERATIONS.index("Relu") + 1, 0, 0]


@pytest.fixture(scope="module")
def word_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "[END]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [END]", special_tokens=[("[END]", 2)])
    return tokenizer


@pytest.fixture(params=["tokenizers", "transformers"])
def tokenizer(request, word_tokenizer):
    """A tokenizer of each library: a word is a token, and an end follows."""
    if request.param == "tokenizers":
        return word_tokenizer
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=word_tokenizer, pad_token="[PAD]")


def test_token_batches_are_padded_at_the_end(rows, tokenizer):
    batch = TokenBatches(tokenizer)(rows)
    counts = [len(row["text"].split()) + 1 for row in rows]
    assert batch["input_ids"].shape == (len(rows), max(counts))
    assert batch["attention_mask"].sum(1).tolist() == counts
    assert (batch["input_ids"] == 2).sum(1).tolist() == [1] * len(rows)
    assert torch.equal(batch["input_ids"] == 1, batch["attention_mask"] == 0)
    assert batch["ids"] == [row["id"] for row in rows]
    assert batch["accuracy"].dtype == torch.float32
    assert math.isnan(batch["accuracy"][-1])
    assert not batch["is_truncated"].any()


def test_cut_texts_are_said(rows, tokenizer):
    counts = [len(row["text"].split()) + 1 for row in rows]
    most = sorted(counts)[2]
    batches = TokenBatches(tokenizer, max_length=most)
    with pytest.warns(UserWarning, match=f"cut to {most} tokens.* has {max(counts)}"):
        batch = batches(rows)
    assert batch["is_truncated"].tolist() == [count > most for count in counts]
    assert batch["input_ids"].shape[1] == most
    with warnings.catch_warnings(action="error"):
        batches(rows)


def test_a_tokenizer_without_padding_is_refused():
    with pytest.raises(OnnxBenchError, match="pad_id=0"):
        TokenBatches(Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))


def test_workers_make_the_same_batches(rows, tokenizer):
    for batches in (GraphBatches(), TokenBatches(tokenizer)):
        again = pickle.loads(pickle.dumps(batches))
        here, there = (list(DataLoader(rows, 4, collate_fn=make)) for make in (batches, again))
        assert str(here) == str(there)
    alone = DataLoader(rows, 4, collate_fn=GraphBatches())
    shared = DataLoader(rows, 4, collate_fn=GraphBatches(), num_workers=2)
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.edge_index, other.edge_index)


def test_missing_columns_and_broken_texts_are_said(rows):
    for name in ("id", "text", "accuracy"):
        with pytest.raises(LoadError, match=f"no column '{name}'"):
            GraphBatches()([{key: value for key, value in rows[0].items() if key != name}])
    for line in ("Relu 2", "Relu $", "@A"):
        with pytest.raises(TextError):
            read_nodes(f"onnx-net 1\nopset 18\ninput [1,8]\nRelu $0\n{line}\noutput 1")


@pytest.mark.parametrize("package", ["torch", "torch_geometric"])
def test_an_absent_extra_is_named(package):
    program = f"""
import sys
sys.modules["{package}"] = None
from onnx_bench_dataset.batches import GraphBatches
text = "onnx-net 1\\nopset 18\\ninput [1,8]\\nRelu $0\\noutput 1"
GraphBatches()([{{"id": "a", "accuracy": 1.0, "text": text}}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert f"batches need {package}: pip install 'onnx-bench-dataset[torch]'" in done.stderr
