"""Cells of other spaces in the form of NAS-Bench-101."""

from onnx_bench_dataset import spaces
from onnx_bench_dataset.design.cells import COUNTERPARTS, nasbench201_cell, nasbench301_cell
from onnx_bench_dataset.spaces import nasbench201, nasbench301_genotypes
from onnx_bench_dataset.spaces.nasbench101 import parse
from onnx_bench_dataset.spaces.nasbench101_cells import cell_hash
from onnx_bench_dataset.spaces.nasbench301_genotypes import Edge


def test_the_best_cell_of_nasbench201_is_a_cell_of_nasbench101():
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    conv = "conv3x3-bn-relu"
    same = parse(f"{conv}:0 {conv}:0 {conv}:1 {conv}:1 {conv}:2,3 output:0,4,5")
    assert cell_hash(nasbench201_cell(best)) == cell_hash(same)


def test_a_cell_without_a_path_has_no_form():
    assert nasbench201_cell("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|nor_conv_3x3~1|none~2|") is None


def test_what_leads_nowhere_is_left_out():
    cell = nasbench201_cell("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|none~2|")
    assert cell == parse("maxpool3x3:0 output:1")


def test_both_inputs_of_a_darts_cell_are_the_input_and_all_nodes_are_the_output():
    edges = [Edge("skip_connect", 0), Edge("skip_connect", 1)] * 2
    edges += [Edge("sep_conv_3x3", 0), Edge("max_pool_3x3", 2), Edge("dil_conv_5x5", 4), Edge("none", 1)]
    cell = nasbench301_cell(edges)
    assert cell == parse("conv3x3-bn-relu:0 maxpool3x3:0 conv1x1-bn-relu:1,2 output:0,1,2,3")


def test_every_operation_has_a_counterpart_but_skip_connection_and_none():
    operations = {*nasbench201.OPERATIONS, *nasbench301_genotypes.OPERATIONS}
    assert operations - COUNTERPARTS.keys() == {"none", "skip_connect"}


def test_cells_of_darts_have_one_vertex_for_each_operation_that_matters():
    for architecture in spaces.get("nasbench301").sample(50, 0):
        for edges in nasbench301_genotypes.parse(architecture):
            cell = nasbench301_cell(edges)
            assert len(cell.operations) == sum(edge.operation != "skip_connect" for edge in edges)
