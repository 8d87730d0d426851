"""Which spaces train and test in which config."""

from onnx_bench_dataset.splits import TEST, TRAIN, configs


def zero_shot(*spaces):
    """Return {family: (spaces that train, spaces that test)} of a folder with these spaces."""
    offered = configs(dict.fromkeys(spaces, (TRAIN, TEST)))
    found = {config.name: config.splits for config in offered if config.name.startswith("zero-shot-")}
    return {name.removeprefix("zero-shot-"): (set(s[TRAIN]), set(s[TEST])) for name, s in found.items()}


def test_spaces_of_a_family_are_never_on_both_sides():
    assert zero_shot("nasbench101", "nasbench201", "natsbench_size", "my_models") == {
        "nasbench101": ({"nasbench201", "natsbench_size", "my_models"}, {"nasbench101"}),
        "nasbench201": ({"nasbench101", "my_models"}, {"nasbench201", "natsbench_size"}),
        "my_models": ({"nasbench101", "nasbench201", "natsbench_size"}, {"my_models"}),
    }


def test_small_versions_of_other_spaces_are_on_neither_side():
    assert zero_shot("nasbench101", "nasbench201", "digits") == {
        "nasbench101": ({"nasbench201"}, {"nasbench101"}),
        "nasbench201": ({"nasbench101"}, {"nasbench201"}),
    }
    assert zero_shot("nasbench101", "digits") == {}


def test_one_config_is_the_default():
    offered = configs(dict.fromkeys(["nasbench101", "nasbench201", "digits"], (TRAIN, TEST)))
    assert [config.name for config in offered if config.is_default] == ["all"]
    assert len({config.name for config in offered}) == len(offered)
