from __future__ import annotations

import pytest
import yaml

from a2lc.acquisition.cost import ClickCost
from a2lc.errors import ConfigError, MissingFileError, NewerProjectError, UnknownNameError
from a2lc.project.config import FORMAT_VERSION, PRESETS, ProjectConfig, TrainingConfig, apply_settings, read_config


def minimal(**more):
    return {
        "format_version": FORMAT_VERSION,
        "created_by": "a2lc 0.2.0",
        "name": "demo",
        "classes": {"classes": ["a"]},
        "sources": {"images": "images"},
        **more,
    }


def write(tmp_path, data):
    path = tmp_path / "project.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def test_defaults(tmp_path):
    config = read_config(write(tmp_path, minimal()))
    assert (config.seed, config.method.name, config.training.preset, config.annotator.kind) == (
        0,
        "gain",
        "cpu",
        "oracle",
    )
    assert config.sources.exif == "refuse"
    assert config.sources.max_pixels == 8192 * 8192


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_save_and_read_give_the_same(tmp_path, preset):
    data = minimal(
        training={"preset": preset, "iterations": 17, "crop": None, "scale": [0.9, 1.1]},
        seed=12,
        sources={"images": "../i", "value_map": {34: 255, 7: 0}, "exif": "apply"},
        method={"name": "a2lc", "settings": {"thresholds": [0.9, 0.99]}},
    )
    config = ProjectConfig.model_validate(data)
    config.save(tmp_path / "project.yaml")
    assert read_config(tmp_path / "project.yaml") == config
    kept = yaml.safe_load((tmp_path / "project.yaml").read_text())["training"]
    assert kept["preset"] == preset
    assert kept["iterations"] == 17
    assert "batch_size" not in kept, "what the preset says is not written down"


def test_names_in_any_script_survive(tmp_path):
    config = ProjectConfig.model_validate(minimal(name="Straße 道路"))
    config.save(tmp_path / "project.yaml")
    assert read_config(tmp_path / "project.yaml").name == "Straße 道路"
    assert "道路" in (tmp_path / "project.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"trainin": {}}, r"unknown key 'trainin'. Did you mean 'training'\? Known: .*sources.*training"),
        ({"training": {"iteratoins": 3}}, r"unknown key 'training.iteratoins'. Did you mean 'iterations'\?"),
        ({"sources": {"images": "a", "mask": "b"}}, r"unknown key 'sources.mask'. Did you mean 'masks'\?"),
        ({"annotator": {"error": 0.1}}, r"unknown key 'annotator.error'. Did you mean 'error_rate'\?"),
        ({"training": {"iterations": 0}}, r"training.iterations: .*greater than or equal to 1, found 0"),
        ({"training": {"preset": "fast"}}, r"training.preset: .*'cpu', 'paper' or 'tiny'.*found 'fast'"),
        ({"training": {"preset": ["cpu"]}}, r"training.preset: .*found \['cpu'\]"),
        ({"training": {"scale": [2.0, 1.0]}}, r"training: scale \(2.0, 1.0\) is not a range of two positive numbers"),
        (
            {"training": {"model": "probabilities"}},
            r"training: .model: probabilities. requires the folder",
        ),
        ({"training": {"probabilities": "dir"}}, r"requires the folder"),
        ({"annotator": {"error_rate": 1.0}}, r"annotator.error_rate: .*less than 1, found 1.0"),
        (
            {"sources": {"images": "a", "exif": "turn"}},
            r"sources.exif: .*'refuse', 'apply', 'ignore' or 'bake'.*found 'turn'",
        ),
        ({"seed": -1}, r"seed: .*greater than or equal to 0, found -1"),
        ({"seed": "x", "name": 5}, r"name: .*found 5\. \(1 more\)"),
    ],
)
def test_bad_values_name_the_key(tmp_path, more, message):
    path = write(tmp_path, minimal(**more))
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_key_is_named(tmp_path):
    data = minimal()
    del data["sources"]
    with pytest.raises(ConfigError, match=r"sources: Field required\.$"):
        read_config(write(tmp_path, data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n- 2\n", "expected settings as keys and values, found list"),
        ("", "expected settings as keys and values, found NoneType"),
    ],
)
def test_not_a_configuration(tmp_path, text, message):
    with pytest.raises(ConfigError, match=rf"project\.yaml: {message}"):
        read_config(write(tmp_path, text))


def test_not_utf8(tmp_path):
    (tmp_path / "project.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_config(tmp_path / "project.yaml")


def test_missing_project(tmp_path):
    with pytest.raises(
        MissingFileError, match=r"There is no project at .*project.yaml is missing. Create one with: a2lc init"
    ):
        read_config(tmp_path / "project.yaml")


def test_newer_version_is_refused_even_if_it_has_other_keys(tmp_path):
    path = write(tmp_path, {"format_version": 2, "created_by": "a2lc 9.1.0", "something": "else"})
    message = r"format version 2, written by a2lc 9.1.0; this a2lc reads versions up to 1. .*pip install -U a2lc"
    with pytest.raises(NewerProjectError, match=message):
        read_config(path)


def test_configuration_is_frozen():
    config = ProjectConfig.model_validate(minimal())
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


# ---- presets and settings -------------------------------------------------------------------------------------------


def test_presets_fill_in_what_is_not_said():
    assert TrainingConfig(preset="paper").encoder == "resnet101"
    assert TrainingConfig(preset="paper", encoder="resnet18").encoder == "resnet18"
    assert TrainingConfig().encoder == "resnet18"
    for preset, values in PRESETS.items():
        assert set(values) <= set(TrainingConfig.model_fields), preset


def test_settings_change_dotted_keys():
    config = ProjectConfig.model_validate(minimal())
    changed = apply_settings(config, {"training.iterations": 5, "annotator.kind": "human", "seed": "4"})
    assert (changed.training.iterations, changed.annotator.kind, changed.seed) == (5, "human", 4)
    assert config.training.iterations == 450, "the old one is left alone"
    assert apply_settings(config, {}) == config


def test_preset_by_setting_resets_what_it_fills_in():
    config = ProjectConfig.model_validate(minimal(training={"iterations": 9}))
    changed = apply_settings(config, {"training.preset": "paper", "training.batch_size": 2})
    assert (changed.training.iterations, changed.training.crop, changed.training.batch_size) == (30_000, 513, 2)
    given = ProjectConfig.model_validate(minimal(training={"model": "probabilities", "probabilities": "p"}))
    assert apply_settings(given, {"training.preset": "tiny"}).training.probabilities == "p"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"training.iteration": 5},
            ConfigError,
            r"^settings: unknown key 'training.iteration'. Did you mean 'iterations'\?",
        ),
        ({"trainng.iterations": 5}, ConfigError, r"^settings: unknown key 'trainng'. Did you mean 'training'\?"),
        ({"training.iterations": "many"}, ConfigError, r"^settings: training.iterations: .*found 'many'"),
        ({"seed.more": 1}, ConfigError, r"^seed.more: 'seed' has no settings of its own"),
        ({"training.preset": "papr"}, UnknownNameError, r"Unknown preset 'papr'. Did you mean 'paper'\?"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        apply_settings(ProjectConfig.model_validate(minimal()), settings)


# ---- cost --------------------------------------------------------------------------------------------------------


def test_clicks():
    cost = ClickCost(confirm=1, correct=2.5)
    assert cost.highest == 2.5
    assert [cost.of(kind) for kind in ("confirm", "correct", "void", "classes", "mixed", "skip")] == [
        1,
        2.5,
        2.5,
        2.5,
        2.5,
        0,
    ]
    assert ClickCost().highest == 1


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_clicks_that_bound_no_budget(bad):
    with pytest.raises(ConfigError, match=f"must be above 0, found 1.0 and {bad}"):
        ClickCost(correct=bad)


@pytest.mark.parametrize(
    ("made_by", "training", "model"),
    [
        ("a2lc 0.1.0", {"preset": "cpu"}, "deeplabv3plus"),
        ("a2lc 0.1.0", None, "deeplabv3plus"),
        ("a2lc 0.1.0", {"model": "unet"}, "unet"),
        ("a2lc 0.2.0", {"preset": "cpu"}, "head"),
        ("a2lc 0.2.0", {"preset": "paper"}, "deeplabv3plus"),
    ],
)
def test_projects_keep_the_model_that_was_the_default_when_they_were_made(tmp_path, made_by, training, model):
    path = write(tmp_path, minimal(created_by=made_by, **({} if training is None else {"training": training})))
    config = read_config(path)
    assert config.training.model == model
    config.save(path)
    assert read_config(path).training.model == model


def test_a_preset_brings_its_model_unless_another_one_was_chosen():
    config = apply_settings(ProjectConfig.model_validate(minimal()), {"training.preset": "paper"})
    assert config.training.model == "deeplabv3plus"
    assert apply_settings(config, {"training.preset": "tiny"}).training.model == "head"
    chosen = apply_settings(config, {"training.model": "unet"})
    assert apply_settings(chosen, {"training.preset": "tiny"}).training.model == "unet"
