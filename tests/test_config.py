import pytest

from spikeinterface_nuclr import EncoderConfig, InputError, PretrainConfig
from spikeinterface_nuclr.training.config import read_config


def test_defaults_are_the_published_settings():
    config = PretrainConfig()
    assert (config.steps, config.samples, config.max_view_distance_s, config.learning_rate) == (50_000, 128, 30.0, 5e-4)
    assert (config.temperature, config.objective, config.temperature_scope) == (0.2, "dcl_full", "cross-view")
    assert (config.encoder.dim, config.encoder.dropout, config.encoder.input_scale) == (256, 0.2, "counts")


def test_a_config_survives_toml(tmp_path):
    config = PretrainConfig(steps=7, probe='a "b"', encoder=EncoderConfig(dim=64, input_scale="log1p"), seed=3)
    path = tmp_path / "run.toml"
    path.write_text(config.to_toml())
    assert read_config(path) == config


def test_every_setting_is_commented():
    lines = [line for line in PretrainConfig().to_toml().splitlines() if line and not line.startswith("[")]
    assert all("  # " in line and line.split("  # ")[1].endswith(".") for line in lines)
    assert len({line.split("  # ")[1] for line in lines}) == len(lines)


def test_single_settings_go_over_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("steps = 10\nsamples = 3\n[encoder]\ndim = 64\n")
    config = read_config(path, ["steps=20", "encoder.heads=2", "optimizer=adamw", "learning_rate=1e-3"])
    assert (config.steps, config.samples, config.learning_rate) == (20, 3, 1e-3)
    assert (config.encoder.dim, config.encoder.heads) == (64, 2)
    path.write_text('[encoder]\ninput_scale = "log1p+acg"\n')
    assert read_config(path, ["encoder.signal=traces", "encoder.input_scale=counts"]).encoder.signal == "traces"
    start = PretrainConfig(encoder=EncoderConfig(dim=32))
    assert read_config(None, ["steps=5"], start).encoder.dim == 32


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stepz=3", "stepz=3: stepz is unknown"),
        ("encoder.width=3", "encoder.width is unknown"),
        ("encoder=3", r"encoder must be a table"),
        ("steps", "a setting is NAME=VALUE"),
        ("steps=many", "steps must be of type int"),
        ("steps=1.5", "steps must be of type int"),
        ("clip=true", "clip must be of type float"),
        ("encoder.dim=0", "dim must lie in"),
        ("samples=0", "samples must be positive"),
        ("temperature=0.0", "temperature must be positive"),
        ("warmup=-1.0", "warmup must lie"),
        ("min_unit_fraction=0", "min_unit_fraction must lie"),
        ("max_units=5", "max_units must be above 10"),
        ("objective=x", "objective must be one of"),
        ("temperature_scope=x", "temperature_scope must be one of"),
        ("optimizer=sgd", "optimizer must be one of"),
        ("seed=-1", "seed must not be negative"),
    ],
)
def test_settings_that_cannot_be_are_named(setting, says):
    with pytest.raises(InputError, match=says) as error:
        read_config(None, [setting])
    assert str(error.value).startswith(setting)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_are_named(tmp_path):
    path = tmp_path / "run.toml"
    with pytest.raises(InputError, match=r"run.toml: not a readable TOML file"):
        read_config(path)
    path.write_text("steps = = 3")
    with pytest.raises(InputError, match=r"run.toml: not a readable TOML file"):
        read_config(path)
    path.write_text("[encoder]\nwidth = 3")
    with pytest.raises(InputError, match=r"run.toml: encoder.width is unknown"):
        read_config(path)
    for text in ("steps = " + "[" * 100_000, "a." * 2_000 + "b = 1", "steps = 1" + "0" * 5000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"^\S*run.toml: ") as error:
            read_config(path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"probe = '\xff'")
    with pytest.raises(InputError, match=r"run.toml: not a readable TOML file"):
        read_config(path)


@pytest.mark.parametrize("setting", ["steps", "samples", "seed", "learning_rate", "monitor_s"])
def test_numbers_beyond_all_counts_are_named(setting):
    with pytest.raises(InputError, match=f"{setting} must be at most"):
        read_config(None, [f"{setting}=1{'0' * 400}"])
    # The parser of Python 3.14 refuses such names itself.
    with pytest.raises(InputError, match=f"{setting} must be one value|a setting is NAME=VALUE"):
        read_config(None, [f"{setting}." * 1_000 + "x=1"])
