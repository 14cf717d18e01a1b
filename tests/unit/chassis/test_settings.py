from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.errors import SetupError
from perron.chassis.settings import ServiceSettings, refuse_to_start, secret_field

CANARY = "canary-3f9a"


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PERRON_TOY_")

    sweep_seconds: float = Field(5.0, gt=0, description="How often to sweep.")
    open_signup: bool = Field(False, description="Whether anybody may sign up.")
    names: tuple[str, ...] = Field((), description="Names, separated by commas.")
    pepper_file: str = Field("", description="File of the pepper.")
    token: str = secret_field(description="A secret.")


def test_defaults_hold_where_the_environment_says_nothing() -> None:
    settings = Settings.read({"PATH": "/bin", "PERRON_OTHER_THING": "1"})
    assert settings.listen_address == "127.0.0.1:0"
    assert settings.database_url == "sqlite:///var/toy.sqlite"
    assert (settings.sweep_seconds, settings.open_signup, settings.names) == (5.0, False, ())
    assert Settings.service_name() == "toy"


def test_the_environment_is_read_by_type() -> None:
    settings = Settings.read(
        {
            "PERRON_TOY_SWEEP_SECONDS": "0.5",
            "PERRON_TOY_OPEN_SIGNUP": "true",
            "PERRON_TOY_NAMES": "a, b,",
            "PERRON_TOY_DATABASE_URL": "postgresql://u@h/d",
        }
    )
    assert (settings.sweep_seconds, settings.open_signup, settings.names) == (0.5, True, ("a", "b"))
    assert settings.database_url == "postgresql://u@h/d"


def test_secrets_come_from_files_and_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n")
    (tmp_path / "url").write_text(f"postgresql://u:{CANARY}@h/d\n")
    settings = Settings.read(
        {
            "PERRON_TOY_TOKEN_FILE": str(tmp_path / "token"),
            "PERRON_TOY_DATABASE_URL_FILE": str(tmp_path / "url"),
        }
    )
    assert settings.token == CANARY
    assert settings.database_url.endswith("@h/d")
    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"PERRON_TOY_SWEEP_SECOND": "1"}, "PERRON_TOY_SWEEP_SECOND: there is no such setting"),
        ({"PERRON_TOY_SWEEP_SECONDS_FILE": "/x"}, "PERRON_TOY_SWEEP_SECONDS_FILE: there is no such setting"),
        ({"PERRON_TOY_sweep_seconds": "1"}, "PERRON_TOY_sweep_seconds: there is no such setting"),
        ({"PERRON_TOY_PLAINTEXT": "behind-mesh"}, "PERRON_TOY_PLAINTEXT: there is no such setting"),
        ({"PERRON_TOY_SWEEP_SECONDS": "0"}, "PERRON_TOY_SWEEP_SECONDS: Input should be greater than 0"),
        ({"PERRON_TOY_OPEN_SIGNUP": CANARY}, "PERRON_TOY_OPEN_SIGNUP: "),
        ({"PERRON_TOY_TOKEN": "a", "PERRON_TOY_TOKEN_FILE": "/x"}, "PERRON_TOY_TOKEN is set too"),
        ({"PERRON_TOY_TOKEN_FILE": "/no/such/file"}, "/no/such/file: No such file or directory"),
        ({"PERRON_TOY_TOKEN_FILE": "/dev/null"}, "/dev/null is empty"),
        ({"PERRON_TOY_TOKEN_FILE": ""}, "PERRON_TOY_TOKEN_FILE: no file is named"),
        ({"PERRON_TOY_LISTEN_ADDRESS": "127.0.0.1"}, "PERRON_TOY_LISTEN_ADDRESS must be host:port"),
        ({"PERRON_TOY_LISTEN_ADDRESS": "127.0.0.1:65536"}, "PERRON_TOY_LISTEN_ADDRESS must be host:port"),
        ({"PERRON_TOY_LISTEN_ADDRESS": "0.0.0.0:7401"}, "PERRON_PLAINTEXT=behind-mesh"),
        ({"PERRON_TOY_LISTEN_ADDRESS": "[::]:7401"}, "PERRON_PLAINTEXT=behind-mesh"),
        ({"PERRON_TOY_LISTEN_ADDRESS": "example.org:7401"}, "PERRON_PLAINTEXT=behind-mesh"),
        ({"PERRON_PLAINTEXT": CANARY}, "PERRON_PLAINTEXT: "),
        ({"PERRON_TOY_TLS_KEY_FILE": "key.pem"}, "belong together"),
        ({"PERRON_TOY_TLS_CLIENT_CA_FILE": "ca.pem"}, "PERRON_TOY_TLS_CLIENT_CA_FILE needs"),
    ],
)
def test_a_wrong_setting_is_one_clear_line_and_exit_code_2(
    environment: dict[str, str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        Settings.load(environment)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("perron toy: ")
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert CANARY not in printed.err


def test_every_setting_at_fault_is_named_at_once() -> None:
    with pytest.raises(SetupError) as caught:
        Settings.read({"PERRON_TOY_SWEEP_SECONDS": "-1", "PERRON_TOY_OPEN_SIGNUP": "perhaps"})
    assert "PERRON_TOY_SWEEP_SECONDS" in str(caught.value)
    assert "PERRON_TOY_OPEN_SIGNUP" in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.8.8:1", "[::1]:7401", "localhost:7401"])
def test_this_machine_alone_needs_no_encryption(address: str) -> None:
    assert Settings.read({"PERRON_TOY_LISTEN_ADDRESS": address}).listen_address == address


@pytest.mark.parametrize(
    "how",
    [
        {"PERRON_PLAINTEXT": "behind-mesh"},
        {"PERRON_TOY_TLS_CERTIFICATE_FILE": "c.pem", "PERRON_TOY_TLS_KEY_FILE": "k.pem"},
    ],
)
def test_any_address_is_served_encrypted_or_behind_a_mesh(how: dict[str, str]) -> None:
    settings = Settings.read({"PERRON_TOY_LISTEN_ADDRESS": "0.0.0.0:7401", **how})

    assert settings.listen_address == "0.0.0.0:7401"


def test_a_secret_file_is_read_whole_without_white_space_around_it(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_bytes(b"\n  two words \xff\n")
    settings = Settings.read({"PERRON_TOY_PEPPER_FILE": str(tmp_path / "pepper")})
    assert settings.read_secret("pepper_file") == b"two words \xff"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = Settings.read({"PERRON_TOY_PEPPER_FILE": str(tmp_path)})
    with pytest.raises(SetupError, match=r"PERRON_TOY_PEPPER_FILE.*Is a directory"):
        settings.read_secret("pepper_file")


def test_a_key_file_that_holds_no_key_is_named_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"prn_\xff\x00 canary")
    with pytest.raises(SetupError, match="does not hold a key") as caught:
        Settings.read({"PERRON_TOY_KEY_FILE": str(tmp_path / "key")}).own_key()
    assert "canary" not in str(caught.value)


def test_the_line_that_refuses_to_start_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        refuse_to_start("toy", "first\nsecond\x1b[31m")
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "\x1b" not in printed


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
