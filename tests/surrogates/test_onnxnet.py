"""ONNX-Net learns from texts of any style, by a model of its own or of Hugging Face, and is stored whole."""

import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from onnx_bench_dataset import spaces
from onnx_bench_dataset.errors import LoadError, PredictorError, UnknownNameError
from onnx_bench_dataset.surrogates import load, new, predictor_file
from onnx_bench_dataset.surrogates.tokenizer import LEAST_VOCABULARY, train_tokenizer
from onnx_bench_dataset.text import encode

SPACE = spaces.get("nasbench201")
QUICK = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def rows():
    """Cells that are the better the more convolutions of 3x3 they have."""
    cells = SPACE.sample(40, 0)
    models = [SPACE.model(cell) for cell in cells]
    return pa.table(
        {
            "text": [encode(model) for model in models],
            "onnx": pa.array([model.SerializeToString() for model in models], pa.large_binary()),
            "accuracy": [80.0 + cell.count("conv_3x3") for cell in cells],
        }
    )


@pytest.fixture(scope="module")
def fitted(rows):
    return new("onnxnet", **QUICK).fit(rows, seed=1)


def correlation(predictor, rows):
    return np.corrcoef(predictor.predict(rows), rows["accuracy"].to_numpy())[0, 1]


def test_it_learns_what_makes_networks_better(fitted, rows):
    assert correlation(fitted, rows) > 0.8


def test_a_seed_makes_the_same_scores(fitted, rows):
    again = new("onnxnet", **QUICK).fit(rows, seed=1)
    assert np.array_equal(again.predict(rows), fitted.predict(rows))


def test_a_score_depends_on_its_row_alone(fitted, rows):
    backwards = rows.take(list(range(len(rows)))[::-1])
    assert np.allclose(fitted.predict(backwards)[::-1], fitted.predict(rows), atol=1e-5)
    assert np.allclose(fitted.predict(rows.slice(5, 1)), fitted.predict(rows)[5], atol=1e-5)


def test_no_rows_have_no_scores(fitted, rows):
    assert fitted.predict(rows.slice(0, 0)).shape == (0,)


def test_a_file_holds_all_of_it(fitted, rows, tmp_path):
    fitted.save(tmp_path / "onnxnet")
    again = load(tmp_path / "onnxnet")
    assert np.array_equal(again.predict(rows), fitted.predict(rows))
    assert again.state()[0] == fitted.state()[0]


def test_a_file_that_could_not_be_read_again_is_not_written(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor_file, "MAX_BYTES", 100_000)
    with pytest.raises(PredictorError, match="of 100,000 at most: take a smaller model"):
        fitted.save(tmp_path / "onnxnet")
    assert not list(tmp_path.iterdir())


def test_other_styles_are_made_of_the_model(rows):
    predictor = new("onnxnet", style="chain-slim", max_length=96, **QUICK | {"epochs": 1})
    with pytest.warns(UserWarning, match="cut to 96 tokens"):
        predictor.fit(rows.drop_columns(["text"]))
    with pytest.raises(LoadError, match="no column onnx"):
        predictor.predict(rows.drop_columns(["onnx"]))
    with pytest.raises(UnknownNameError, match="no style of text is called 'poem'"):
        new("onnxnet", style="poem")


@pytest.fixture(scope="module")
def bert(rows, tmp_path_factory):
    """A folder with a tiny BERT, as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = train_tokenizer(rows["text"].to_pylist(), 400)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        num_labels=5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_any_language_model_of_a_folder_is_tuned(bert, rows, tmp_path):
    options = {"model": str(bert), "epochs": 1, "gradient_checkpointing": True}
    with pytest.warns(UserWarning, match="cut to 128 tokens"):  # of positions that this model knows
        predictor = new("onnxnet", **options).fit(rows, seed=3)
    assert predictor.state()[0]["model"] == str(bert)
    with pytest.warns(UserWarning, match="cut to 128 tokens"):
        scores = predictor.predict(rows)
    assert np.ptp(scores) > 0
    predictor.save(tmp_path / "tuned")
    bert.rename(tmp_path / "away")  # the file is enough
    with pytest.warns(UserWarning, match="cut to 128 tokens"):
        assert np.array_equal(load(tmp_path / "tuned").predict(rows), scores)


def test_a_model_that_is_not_there_is_said(rows, tmp_path):
    with pytest.raises(PredictorError, match="is no language model that can score texts"):
        new("onnxnet", model=str(tmp_path)).fit(rows)


def test_nothing_is_predicted_or_saved_before_it_has_learned(rows, tmp_path):
    for use in (lambda new: new.predict(rows), lambda new: new.save(tmp_path / "file")):
        with pytest.raises(PredictorError, match="has learned nothing yet"):
            use(new("onnxnet"))


def test_an_absent_extra_is_named(monkeypatch):
    for module in ("onnxnet", "language_model", "tokenizer"):
        monkeypatch.delitem(sys.modules, f"onnx_bench_dataset.surrogates.{module}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        PredictorError, match=r"needs transformers: pip install 'onnx-bench-dataset\[neural\]'"
    ):
        new("onnxnet")


def test_the_tokenizer_reads_words_and_loses_none():
    tokenizer = train_tokenizer(["Conv 1 w[a,a,3,3]\nRelu 1\n"] * 9, LEAST_VOCABULARY + 40)
    words = tokenizer.convert_ids_to_tokens(tokenizer("Relu 1\nConv 1 w[a,a,3,3]")["input_ids"])
    assert words == ["[CLS]", "Relu", "1", "Ċ", "Conv", "1", "w[a,a,3,3]"]
    unseen = "Größe→9"
    assert len(tokenizer(unseen)["input_ids"]) == 1 + len(unseen.encode())
