"""GPT-2 of Hugging Face: weights, tokenizer and command, against `transformers` on a small random model."""

import json
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import twingrad.sides
from twingrad import worker
from twingrad.data.bpe import GPT2Tokenizer
from twingrad.data.text import tokenizer_from_json
from twingrad.errors import InputError
from twingrad.format import read_checkpoint
from twingrad.importers.gpt2 import read_gpt2
from twingrad.importers.gpt2_tokenizer import read_gpt2_tokenizer
from twingrad.models.gpt import GPT

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 50, "n_positions": 16}
C_ATTN = "transformer.h.0.attn.c_attn.weight"
# The first 46 of 50 ids; bytes of "é" and "—" are there, those of other letters beyond ASCII are not.
TOKENS = [
    "<|endoftext|>",
    *"abcdefghijklmnopqrstuvwxyzĠĊ.,'H",
    *"Ã©âĢĶ",
    "th",
    "the",
    "Ġthe",
    "Ġa",
    "He",
    "ll",
    "Hell",
    "Hello",
]
MERGES = ["t h", "th e", "Ġ the", "Ġ a", "H e", "l l", "He ll", "Hell o"]
TEXTS = [
    "",
    "Hello",
    "the hen, the  then.\n\n the ",
    "Hello<|endoftext|> the<|endoftext|><|endoftext|>\nthe",
    "don't — café",
]


@pytest.fixture(scope="module")
def huggingface():
    """What the tests need of `transformers`, which is slow to import."""
    from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel
    from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer as Tokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return SimpleNamespace(Config=GPT2Config, Model=GPT2LMHeadModel, Tokenizer=Tokenizer)


def random_model(huggingface, tied):
    """A model whose every weight is random, norms and biases too."""
    config = huggingface.Config(**SIZES, bos_token_id=0, eos_token_id=0, tie_word_embeddings=tied)
    model, draw = huggingface.Model(config).eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5, generator=draw)
    return model


@pytest.fixture(scope="module")
def models(huggingface):
    return {tied: random_model(huggingface, tied) for tied in (True, False)}


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    """Folders as `transformers` writes them, by whether the head is tied."""
    folders = {tied: tmp_path_factory.mktemp("tied" if tied else "untied") for tied in models}
    for tied, folder in folders.items():
        models[tied].save_pretrained(folder, safe_serialization=True)
    return folders


@pytest.fixture
def folder(saved, tmp_path):
    """A folder of one's own, with a tied head."""
    return shutil.copytree(saved[True], tmp_path / "gpt2")


def change_config(folder, **entries):
    file = folder / "config.json"
    values = json.loads(file.read_bytes()) | entries
    file.write_text(json.dumps({name: value for name, value in values.items() if value != "absent"}))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def write_tokenizer(folder, tokens=TOKENS, merges=MERGES):
    vocab = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def same_weights(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# ---- weights


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers(models, saved, tmp_path, tied):
    read_gpt2(saved[tied]).write(tmp_path / "gpt2.h5")
    checkpoint = read_checkpoint(tmp_path / "gpt2.h5")
    expected = {"vocab": 50, "context": 16, "layers": 2, "heads": 2, "width": 8, "dt": 1.0, "splitting": "lie"}
    assert checkpoint.config.model_dump() == {**expected, "tied": tied, "time_steps": "fixed"}
    assert (checkpoint.status, checkpoint.iteration, checkpoint.dtype) == ("imported", 0, "float32")
    assert not checkpoint.data
    tokens = torch.randint(0, 50, (3, 16), generator=torch.Generator().manual_seed(2))
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        params = {name: torch.tensor(array, dtype=dtype) for name, array in checkpoint.params.items()}
        model = random_copy(models[tied], dtype)
        with torch.no_grad():
            theirs, ours = model(tokens).logits, GPT(checkpoint.config, params)(tokens)
        assert theirs.dtype == ours.dtype == dtype
        assert theirs.abs().max() > 1
        assert (ours - theirs).abs().max() < bound


def random_copy(model, dtype):
    copy = type(model)(model.config).to(dtype).eval()
    copy.load_state_dict(model.state_dict())
    return copy


def test_linear_weights_are_transposed_and_nothing_else(models, saved):
    params = read_gpt2(saved[False]).params
    theirs = {name.removeprefix("transformer."): value.numpy() for name, value in models[False].state_dict().items()}
    turned = {name for name in params if name.startswith("h.") and name.endswith("weight") and ".ln_" not in name}
    assert len(turned) == 8
    assert same_weights(params, {name: value.T if name in turned else value for name, value in theirs.items()})
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in params.values())


def test_with_and_without_the_prefix(models, saved, tmp_path):
    models[True].transformer.save_pretrained(tmp_path)
    assert all(not name.startswith("transformer.") for name in load_file(tmp_path / "model.safetensors"))
    assert same_weights(read_gpt2(tmp_path).params, read_gpt2(saved[True]).params)


@pytest.mark.parametrize("tied", [True, False])
def test_sharded(models, saved, tmp_path, tied):
    models[tied].save_pretrained(tmp_path, max_shard_size="3KB")
    assert len(list(tmp_path.glob("*.safetensors"))) >= 4
    assert same_weights(read_gpt2(tmp_path).params, read_gpt2(saved[tied]).params)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_become_float32(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    change_weights(folder, lambda weights: weights.update({name: w.to(dtype) for name, w in weights.items()}))
    params = read_gpt2(folder).params
    assert params["wte.weight"].dtype == np.float32
    assert np.array_equal(params["wte.weight"], weights["transformer.wte.weight"].to(dtype).float().numpy())


def test_masks_and_a_head_that_says_the_same_twice_are_dropped(folder, saved):
    def change(weights):
        for layer in range(2):
            weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 16, 16).tril()
            weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        weights["lm_head.weight"] = weights["transformer.wte.weight"].clone()

    change_weights(folder, change)
    assert same_weights(read_gpt2(folder).params, read_gpt2(saved[True]).params)


def test_an_old_config_is_understood(folder):
    absent = ("activation_function", "scale_attn_weights", "tie_word_embeddings", "n_inner", "n_positions")
    change_config(folder, n_ctx=16, **dict.fromkeys(absent, "absent"))
    config = read_gpt2(folder).config
    assert (config.context, config.tied) == (16, True)
    change_config(folder, n_inner=32, activation_function="gelu_pytorch_tanh")
    assert read_gpt2(folder).config == config


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "llama"}, "model_type: expected 'gpt2', found 'llama'"),
        ({"model_type": "absent"}, "model_type: expected this entry, found nothing"),
        ({"activation_function": "relu"}, "activation_function: expected one of 'gelu_new' .* found 'relu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon: expected 1e-05, found 1e-06"),
        ({"n_inner": 16}, "n_inner: expected null or 32, found 16"),
        ({"scale_attn_weights": False}, "scale_attn_weights: expected True, found False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: expected False, found True"),
        ({"add_cross_attention": True}, "add_cross_attention: expected False, found True"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: "),
        ({"n_layer": "absent"}, "n_layer: expected this entry, found nothing"),
        ({"n_layer": 0}, "n_layer: "),
        ({"n_embd": "8"}, "n_embd: "),
        ({"n_head": 3}, ": .* 3 heads do not divide the width 8"),
        ({"n_positions": "absent"}, "n_positions: expected this entry, found nothing"),
    ],
)
def test_another_architecture_is_refused(folder, entries, message):
    change_config(folder, **entries)
    with pytest.raises(InputError, match=rf"^{re.escape(str(folder / 'config.json'))}(, )?{message}"):
        read_gpt2(folder)


def put(name, value):
    return lambda weights: weights.update({name: value(weights) if callable(value) else value})


def number(name, value):
    def change(weights):
        weights[name].view(-1)[1] = value

    return change


def double(weights):
    weights["transformer.ln_f.bias"] = torch.full((8,), 1e300, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights.pop("transformer.h.1.ln_2.bias"),
            r", h\.1\.ln_2\.bias: .* shape \(8,\), found nothing",
        ),
        (put("transformer.h.2.ln_1.bias", torch.ones(8)), r"transformer\.h\.2\.ln_1\.bias: .* found an extra entry"),
        (put("score.weight", torch.ones(2, 8)), r"model\.safetensors, score\.weight: .* found an extra entry"),
        (put(C_ATTN, torch.ones(24, 8)), r"c_attn\.weight: expected shape \(8, 24\), found shape \(24, 8\)"),
        (
            put("transformer.wpe.weight", torch.ones(15, 8)),
            r"wpe\.weight: expected shape \(16, 8\), found shape \(15, 8\)",
        ),
        (put("transformer.wte.weight", torch.ones(50 * 8)), r"expected shape \(50, 8\), found shape \(400,\)"),
        (put("transformer.ln_f.bias", torch.ones(8, dtype=torch.int64)), "dtype one of F16, .* found dtype I64"),
        (number("transformer.wpe.weight", torch.nan), r"wpe\.weight: .*finite float32 .* found nan at index \(0, 1\)"),
        (number(C_ATTN, torch.inf), r"c_attn\.weight: .* found inf at index \(0, 1\)"),
        (double, r"ln_f\.bias: expected finite float32 numbers, found inf at index \(0,\)"),
        (put("wpe.weight", torch.ones(16, 8)), r"wpe\.weight once, found it twice, with and without transformer\."),
        (put("lm_head.weight", torch.ones(50, 8)), 'lm_head.weight: .* "tie_word_embeddings": false into config.json'),
        (put("lm_head.weight", torch.ones(49, 8)), r"lm_head\.weight: expected shape \(50, 8\)"),
    ],
)
def test_wrong_weights_are_refused_by_file_and_entry(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(InputError, match=f"^{re.escape(str(folder))}.*{message}") as caught:
        read_gpt2(folder)
    assert "\n" not in str(caught.value)


def test_a_head_of_its_own_must_be_there(folder):
    change_config(folder, tie_word_embeddings=False)
    with pytest.raises(
        InputError, match=r"lm_head\.weight: .* found nothing\. config\.json says that the head is not tied"
    ):
        read_gpt2(folder)


def test_pickles_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"found pytorch_model\.bin\. Pickles are not read.*safe_serialization=True"):
        read_gpt2(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"expected model\.safetensors or .*index\.json, found none"):
        read_gpt2(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: expected a readable file, found no such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: expected a JSON object, found '{'"),
        (
            lambda folder: (folder / "config.json").write_text("[1]"),
            r"config.json: expected a JSON object, found \[1\]",
        ),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff"), "config.json: expected UTF-8 text"),
        (lambda folder: shorten(folder / "model.safetensors", 1), "expected a whole safetensors file, found a damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "found a damaged"),
        (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"), "found a damaged"),
        (lambda folder: shutil.rmtree(folder), "expected a folder of .* found no such folder. Local files are read"),
    ],
)
def test_damaged_files_are_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_gpt2(folder)
    assert "\n" not in str(caught.value)


def shorten(file, count):
    file.write_bytes(file.read_bytes()[:-count])


def change_index(folder, change):
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_bytes())
    change(index["weight_map"])
    file.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names.pop(C_ATTN), rf"{C_ATTN}: expected only the entries that .* found an extra entry"),
        (lambda names: names.update(other=names[C_ATTN]), "other: expected this entry, that .* found nothing"),
        (lambda names: names.update(other="more.safetensors"), r"more\.safetensors: .* found no such file"),
        (
            lambda names: names.update(other="../a"),
            r"weight_map\.other: expected a file in the same folder, found '\.\./a'",
        ),
        (lambda names: names.update(other=3), r"weight_map\.other: "),
    ],
)
def test_an_index_that_does_not_fit_is_refused(models, tmp_path, change, message):
    models[True].save_pretrained(tmp_path, max_shard_size="3KB")
    change_index(tmp_path, change)
    with pytest.raises(InputError, match=message):
        read_gpt2(tmp_path)


# ---- tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a tokenizer of 300 tokens, every byte among them."""
    from tokenizers import ByteLevelBPETokenizer

    folder, tokenizer = tmp_path_factory.mktemp("trained"), ByteLevelBPETokenizer()
    text = ["The cat's on the mat; the dog isn't. 12 345\n\n", "Größe 文字 🙂 the then than"] * 3
    tokenizer.train_from_iterator(text, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.save_model(str(folder))
    return folder


def assert_same_tokens(ours, theirs, texts):
    assert ours.vocab == len(theirs)
    for text in texts:
        ids = ours.encode(text)
        assert ids.dtype == np.int64
        assert ids.tolist() == theirs(text)["input_ids"]
        assert ours.decode(ids) == text
    draw = np.random.default_rng(3)
    for _ in range(20):
        ids = draw.integers(0, ours.vocab, 12)
        assert ours.decode(ids) == theirs.decode(ids.tolist(), clean_up_tokenization_spaces=False)


def test_tokens_are_those_of_transformers(huggingface, tmp_path):
    write_tokenizer(tmp_path)
    assert_same_tokens(read_gpt2_tokenizer(tmp_path), huggingface.Tokenizer.from_pretrained(tmp_path), TEXTS)


def test_tokens_of_both_kinds_of_files_are_those_of_transformers(huggingface, trained, tmp_path):
    theirs = huggingface.Tokenizer.from_pretrained(trained)
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    ours = read_gpt2_tokenizer(trained)
    assert ours == read_gpt2_tokenizer(tmp_path)
    assert_same_tokens(
        ours, theirs, [*TEXTS, "Größe\r\n\t文字🙂 = é!  12 3456's  \N{NO-BREAK SPACE}\0", "\ufeff\u2028"]
    )


def test_a_tokenizer_json_with_merges_as_texts_and_tokens_of_its_own(huggingface, trained, tmp_path):
    theirs = huggingface.Tokenizer.from_pretrained(trained)
    theirs.add_special_tokens({"pad_token": "[PAD]"})
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    value = json.loads(file.read_bytes())
    value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
    file.write_text(json.dumps(value))
    ours = read_gpt2_tokenizer(tmp_path)
    assert ours.special == ("<|endoftext|>", "[PAD]")
    assert_same_tokens(ours, theirs, [*TEXTS, "the [PAD][PAD] the"])


def test_a_checkpoint_holds_its_tokenizer(folder, tmp_path):
    write_tokenizer(folder)
    read_gpt2(folder).write(tmp_path / "gpt2.h5")
    tokenizer = tokenizer_from_json(read_checkpoint(tmp_path / "gpt2.h5").data["tokenizer"], "file")
    assert tokenizer == GPT2Tokenizer(tuple(TOKENS), tuple(MERGES), ("<|endoftext|>",))
    assert (tokenizer.kind, tokenizer.vocab) == ("gpt2", 46)
    with pytest.raises(InputError, match="expected numbers from 0 to 45, found 46 at position 1"):
        tokenizer.decode([0, 46])
    write_tokenizer(folder, [*TOKENS, *"01234"])
    with pytest.raises(InputError, match=r"expected a tokenizer of at most 50 tokens, .* found 51 tokens"):
        read_gpt2(folder)


def test_text_without_tokens_is_named_with_its_place():
    tokenizer = GPT2Tokenizer(tuple(TOKENS), tuple(MERGES), ("<|endoftext|>",))
    with pytest.raises(
        InputError, match=r"^prompt: expected characters whose bytes are tokens, found '7' at position 6"
    ):
        tokenizer.encode("Hello 7")
    with pytest.raises(InputError, match=r"^--text: expected text that UTF-8 can write, found '\\udcff' at position 1"):
        tokenizer.encode("a\udcff", where="--text")


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    tokenizer = GPT2Tokenizer(tuple(TOKENS), tuple(MERGES), ())
    with pytest.raises(InputError, match=r"^tokenizers: .* found none\. Run: pip install 'twingrad\[gpt2\]'"):
        tokenizer.encode("Hello")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gpt2", "size": 3}, "file: expected only kind, vocab, merges, special, found 'size'"),
        ({"vocab": None}, "file, vocab: .* found None"),
        ({"vocab": {}}, "file, vocab: .* found {}"),
        ({"vocab": {"a": 0, "b": 2}}, "file, vocab: .* 0, 1, 2, .* found 2 tokens with other ids"),
        ({"vocab": {"a": 0, "b": True}}, "file, vocab: .* found 2 tokens with other ids"),
        ({"merges": "a b"}, "file, merges: expected a list of texts, found 'a b'"),
        ({"merges": ["a b", "a  b"]}, "file, merges: .* found 'a  b' at place 1"),
        ({"merges": ["b a"]}, "file, merges: expected two tokens .* found 'b a' at place 0"),
        ({"special": [1]}, "file, special: expected a list of texts"),
        ({"special": ["c"]}, "file, special: expected tokens of the vocabulary, found 'c'"),
    ],
)
def test_what_is_no_tokenizer_is_refused(change, message):
    whole = {"kind": "gpt2", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "special": []}
    assert tokenizer_from_json(whole, "file").tokens == ("a", "b", "ab")
    with pytest.raises(InputError, match=f"^{message}"):
        tokenizer_from_json({**whole, **change}, "file")
    for name in ("vocab", "merges", "special"):
        with pytest.raises(InputError, match=f"^file, {name}: expected this entry, found nothing"):
            tokenizer_from_json({key: value for key, value in whole.items() if key != name}, "file")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer: expected None, found {'type': 'NFC'}"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, r"pre_tokenizer\.add_prefix_space: "),
        ({"pre_tokenizer": {"type": "Whitespace"}}, r"pre_tokenizer\.type: expected 'ByteLevel', found 'Whitespace'"),
        ({"post_processor": {"type": "TemplateProcessing", "special_tokens": {"a": {}}}}, "post_processor"),
        ({"decoder": None}, "decoder: "),
        ({"model": {"type": "WordPiece", "vocab": {}, "merges": []}}, r"model\.type: expected 'BPE'"),
        ({"added_tokens": [{"id": 0, "content": "<|endoftext|>", "lstrip": True}]}, r"added_tokens\.0\.lstrip: "),
        ({"added_tokens": [{"id": 999, "content": "[PAD]"}]}, r"model\.vocab: .* found 301 tokens with other ids"),
    ],
)
def test_another_tokenizer_is_refused(huggingface, trained, tmp_path, entries, message):
    huggingface.Tokenizer.from_pretrained(trained).save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | entries))
    with pytest.raises(InputError, match=rf"^{re.escape(str(file))}, {message}"):
        read_gpt2_tokenizer(tmp_path)


def test_half_a_tokenizer_is_refused(tmp_path):
    write_tokenizer(tmp_path, merges=["t h", "h h"])
    with pytest.raises(InputError, match=r"merges\.txt: expected two tokens .* found 'h h' at place 1"):
        read_gpt2_tokenizer(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges\.txt: expected a readable file, found no such file"):
        read_gpt2_tokenizer(tmp_path)


# ---- the command


@pytest.fixture
def here(monkeypatch):
    """Takes `worker.py` into this process."""

    class Here:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def request(self, verb, arguments, progress):
            return worker.VERBS[verb](arguments, progress)

    monkeypatch.setattr(twingrad.sides, "Worker", Here)


def likeliest(model, ids, count):
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-count:]


def test_import_and_continue_a_text(twingrad, here, folder, models, tmp_path):
    model = random_copy(models[True], torch.float32)
    with torch.no_grad():  # the four ids without a token must not be the likeliest
        model.transformer.wte.weight[len(TOKENS) :] *= 1e-3
    model.save_pretrained(folder)
    write_tokenizer(folder)
    file = tmp_path / "new" / "x.h5"
    assert twingrad("import", "gpt2", folder, "--out", file) == (0, f"{file}\n", "")
    tokenizer = GPT2Tokenizer(tuple(TOKENS), tuple(MERGES), ("<|endoftext|>",))
    prompt = tokenizer.encode("Hello the")
    new = likeliest(model, prompt, 9)
    options = ("--checkpoint", file, "--temperature", 0, "--tokens", 9)
    assert twingrad("generate", *options, "--prompt", "Hello the") == (0, f"Hello the{tokenizer.decode(new)}\n", "")
    ids = ",".join(map(str, new))
    assert twingrad("generate", *options, "--prompt-ids", ",".join(map(str, prompt))) == (0, f"{ids}\n", "")


def test_a_checkpoint_without_tokenizer_continues_ids(twingrad, here, folder, models, tmp_path):
    file = tmp_path / "x.h5"
    assert twingrad("import", "gpt2", folder, "--out", file)[0] == 0
    status, _, err = twingrad("generate", "--checkpoint", file, "--prompt", "Hello")
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "expected a tokenizer, found none. Without one, --prompt-ids 15496,11 continues token ids." in err
    status, out, err = twingrad("generate", "--checkpoint", file, "--prompt-ids", "3, 49", "--tokens", 5)
    assert (status, err) == (0, "")
    assert len(out.strip().split(",")) == 5
    for ids, message in [
        ("3,50", "token ids: expected numbers from 0 to 49, found 50 at position 1"),
        ("3,,4", "--prompt-ids: expected numbers with commas between, as 15496,11, found ''"),
        ("-3", "found '-3'"),
        ("", "found ''"),
    ]:
        status, _, err = twingrad("generate", "--checkpoint", file, f"--prompt-ids={ids}")
        assert status == 2
        assert message in err
    status, _, err = twingrad("generate", "--checkpoint", file, "--prompt", "a", "--prompt-ids", "3")
    assert (status, "expected this option or --prompt, found both" in err) == (2, True)


def test_import_errors_are_one_line(twingrad, tmp_path):
    status, out, err = twingrad("import", "gpt2", tmp_path / "nothing", "--out", tmp_path / "x.h5")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert not (tmp_path / "x.h5").exists()
