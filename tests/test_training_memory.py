"""What a run needs, told beforehand: against hand-made sums, and against what torch really keeps."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from training_toys import config, job, model, write_dataset, write_model

from dartlib.training import Recipe, TrainingError, describe_training, load_recipe, memory_table, model_shape
from dartlib.training.memory import PAPER_MODELS, ModelShape, activation_bytes, check_memory, memory_per_process
from dartlib.training.recipe import recipe_names

PAPER = dict(max_tokens_per_pack=4096, packs_per_step=64, packs_per_forward=1, precision="bf16", epochs=3)


def test_the_papers_models_have_their_published_sizes() -> None:
    """From the models' own cards: 7.24, 6.91, 8.03 and 70.55 billion."""
    sizes = [7_241_732_096, 6_910_365_696, 8_030_261_248, 70_553_706_496]
    assert [shape.parameters for shape in PAPER_MODELS.values()] == sizes


@pytest.mark.parametrize("tied", [False, True])
def test_the_shape_of_a_folder_gives_its_parameters(tied: bool, tmp_path: Path) -> None:
    made = model(tie_word_embeddings=tied)
    shape = model_shape(write_model(tmp_path, made))
    assert shape.parameters == sum(weights.numel() for weights in made.parameters())
    with pytest.raises(TrainingError, match="config.json: not there"):
        model_shape(tmp_path / "none")


def test_lora_parameters_are_those_peft_makes(tmp_path: Path) -> None:
    from dartlib.training.models import load_model

    base = write_model(tmp_path / "model", model())
    run = job(tmp_path, dataset=base, base_model=base, recipe=Recipe(lora_rank=4))
    trained = sum(weights.numel() for weights in load_model(run)[0].parameters() if weights.requires_grad)
    assert model_shape(base).lora_parameters(4) == trained


def test_a_7b_model_by_hand() -> None:
    """116 GB on one GPU as it was; by stage: Adam's 8 bytes (12 with DeepSpeed's share), gradients 4, weights 4."""
    shape = PAPER_MODELS["mistralai/Mistral-7B-v0.1"]
    n = shape.parameters
    one = memory_per_process(shape, config(**PAPER), Recipe())
    assert one["weights"] + one["gradients"] + one["optimiser"] == pytest.approx(16 * n)
    assert one["total"] > 116e9
    by_stage = [
        memory_per_process(shape, config(**PAPER), Recipe(processes=8, zero_stage=stage)) for stage in (1, 2, 3)
    ]
    assert [part["optimiser"] / n for part in by_stage] == [1.5, 1.5, 1.5]
    assert [part["gradients"] / n for part in by_stage] == [4, 0.5, 0.5]
    assert [part["weights"] / n for part in by_stage[:2]] == [4, 4]
    assert 0.5 < by_stage[2]["weights"] / n < 0.8  # and the layer in use
    whole = memory_per_process(shape, config(**PAPER), load_recipe("mistral-7b"))
    assert whole["total"] < 40e9  # fits a card of 80 GB twice over


@pytest.mark.parametrize("recipe", ["mistral-7b", "deepseekmath-7b", "llama3-8b", "llama3-70b"])
def test_the_papers_recipes_fit_the_papers_cards(recipe: str) -> None:
    models = dict(zip(["mistral-7b", "deepseekmath-7b", "llama3-8b", "llama3-70b"], PAPER_MODELS.values(), strict=True))
    assert memory_per_process(models[recipe], config(**PAPER), load_recipe(recipe))["total"] < 0.9 * 80e9
    assert load_recipe(recipe).world == (32 if recipe == "llama3-70b" else 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_what_torch_keeps_for_backward(precision: str, attention: str) -> None:
    torch = pytest.importorskip("torch")
    from dartlib.training.data import Example
    from dartlib.training.loss import SupervisedModel, collate

    toy = model(hidden_size=64, intermediate_size=160, num_hidden_layers=6, attn_implementation=attention)
    weights = {one.untyped_storage().data_ptr() for one in toy.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    packs = [[Example(tuple(3 + number % 20 for number in range(128)), 40)] * 2] * 2
    batch = collate(packs, torch.device("cpu"), attention)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            SupervisedModel(toy).hidden(batch)
    settings = config(max_tokens_per_pack=256, packs_per_forward=2, precision=precision)
    shape = ModelShape(64, 6, 160, 33, 4, 64, 32, tied=True)
    six, one = (
        activation_bytes(replace(shape, layers=layers), settings, Recipe(attention=attention)) for layers in (6, 0)
    )
    assert six - one == pytest.approx(sum(sizes.values()), rel=0.2)


def test_the_table_has_every_stage_and_marks_the_recipes_own() -> None:
    table = memory_table(PAPER_MODELS["meta-llama/Meta-Llama-3-8B"], config(**PAPER), load_recipe("llama3-8b"))
    stages = [(row["zero_stage"], row["offload"]) for row in table]
    assert stages == [(0, False), (1, False), (1, True), (2, False), (2, True), (3, False), (3, True)]
    assert [row["chosen"] for row in table].index(True) == 5
    parts = ("weights_gb", "gradients_gb", "optimiser_gb", "activations_gb")
    assert all(row["total_gb"] == pytest.approx(sum(row[part] for part in parts), abs=0.01) for row in table)
    totals = [row["total_gb"] for row in table if not row["offload"]]
    assert totals == sorted(totals, reverse=True)


def test_too_little_memory_names_the_settings_that_fit(tmp_path: Path) -> None:
    base = write_model(tmp_path / "model", model())
    run = job(tmp_path, dataset=write_dataset(tmp_path / "rows.parquet"), base_model=base, max_tokens_per_pack=2048)
    check_memory(run, 10e9, gpu=True)
    needed = memory_per_process(model_shape(base), run.config, run.recipe)["total"]
    with pytest.raises(TrainingError) as caught:
        check_memory(run, 0.9 * needed, gpu=True)
    assert str(caught.value).startswith("too little memory: each of 1 processes needs 0.0")
    assert str(caught.value).endswith("it fits with gradient_checkpointing: true")
    fitting = replace(run, recipe=Recipe(gradient_checkpointing=True))
    check_memory(fitting, 0.9 * needed, gpu=True)  # the advice holds
    with pytest.raises(TrainingError, match="nothing fits here: take more processes"):
        check_memory(run, 1e5, gpu=True)


def test_offload_is_no_advice_where_there_is_no_gpu(tmp_path: Path) -> None:
    base = write_model(tmp_path / "model", model())
    recipe = Recipe(processes=2, zero_stage=3, gradient_checkpointing=True)
    run = job(tmp_path, dataset=base, base_model=base, recipe=recipe, max_tokens_per_pack=16)
    shape = model_shape(base)
    needed = {
        offload: memory_per_process(shape, run.config, replace(recipe, offload=offload))["total"]
        for offload in (False, True)
    }
    between = (needed[False] + needed[True]) / 2
    with pytest.raises(TrainingError, match="it fits with zero_stage: 3 with offload: true$"):
        check_memory(run, between, gpu=True)
    check_memory(replace(run, recipe=replace(recipe, offload=True)), between, gpu=True)
    for offload in (False, True):
        with pytest.raises(TrainingError, match="it fits with lora_rank: 16$|nothing fits here"):
            check_memory(replace(run, recipe=replace(recipe, offload=offload)), between, gpu=False)


def test_a_run_without_the_memory_stops_before_it_loads_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from dartlib.training import child

    monkeypatch.setattr(child, "available_memory", lambda recipe: 1e5)
    monkeypatch.setattr(child, "load_model", lambda of: pytest.fail("loaded"))
    base = write_model(tmp_path / "model", model())
    run = job(tmp_path / "out", dataset=write_dataset(tmp_path / "rows.parquet"), base_model=base)
    with pytest.raises(TrainingError, match="too little memory"):
        child.fine_tune(run)


def test_a_plan_in_words() -> None:
    """360 million tokens an epoch at 90 % full packs of 4,096, 64 a step: 1,526 steps, the fact sheet's 1.4 k full."""
    shape = PAPER_MODELS["mistralai/Mistral-7B-v0.1"]
    lines = describe_training(shape, config(**PAPER), load_recipe("mistral-7b"), 360e6)
    assert lines[0].startswith("training: 7.24 B parameters, 1,080,000,000 tokens in 3 epochs, about 4,578 steps")
    assert "in 138 steps, then a cosine down over 4,440" in lines[1]
    assert [line.endswith("<- recipe") for line in lines[2:]] == [False] * 5 + [True, False]


def test_every_recipe_that_comes_along_can_be_read() -> None:
    recipes = {name: load_recipe(name) for name in recipe_names()}
    assert asdict(recipes["one-process"]) == asdict(Recipe())
    assert recipes["two-cpu-processes"].world == 2
    assert recipes["lora-one-gpu"].lora_rank == 16
    shape = PAPER_MODELS["mistralai/Mistral-7B-v0.1"]
    assert memory_per_process(shape, config(**PAPER), recipes["lora-one-gpu"])["total"] < 24e9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("process: 2", "unknown key 'process': valid are processes, nodes,"),
        ("zero_stage: '3'", "zero_stage is '3', expected int"),
        ("offload: 1", "offload is 1, expected bool"),
        ("processes: true", "processes is True, expected int"),
        ("zero_stage: 4", "zero_stage is 4: choose one of 0, 1, 2, 3"),
        ("offload: true", "offload needs zero_stage 1, 2 or 3"),
        ("attention: flex", "attention is 'flex': choose one of sdpa"),
        ("processes: 0", "processes is 0: give at least 1"),
        ("lora_rank: -1", "lora_rank is -1"),
        ("checkpoint_minutes: 0", "checkpoint_minutes is 0: give a number above 0"),
        ("- 1", "a recipe is a mapping"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_a_wrong_recipe_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=f"own.yaml: .*{message}"):
        load_recipe(str(path))


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no recipe 'one-proces': choose one of deepseekmath-7b, llama3-70b"):
        load_recipe("one-proces")
    with pytest.raises(TrainingError, match="no such recipe file"):
        load_recipe(str(tmp_path / "none.yaml"))
