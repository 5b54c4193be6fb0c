"""What a setting is: where it comes from and what it may be."""

from msgspec import UNSET, Struct, UnsetType

from millstream.config.kinds import Kind


class Alias(Struct, frozen=True):
    """Another variable for a setting, read like its own unless `kind` says otherwise.

    A `fallback` is asked only when no other spelling is given, so it cannot disagree with them.
    """

    name: str
    kind: Kind | None = None
    fallback: bool = False


class Setting(Struct, frozen=True, kw_only=True):
    """One setting: `path` in `Config` and in the file, `name` in the environment.

    `flag_kind` is for values that only a flag may give; `strict_default` replaces the schema's default in staging and
    production. A `reserved` one is read and checked, but what it is for is not part of this version.
    """

    path: str
    name: str
    kind: Kind
    help: str
    aliases: tuple[Alias, ...] = ()
    flag_kind: Kind | None = None
    strict_default: object | UnsetType = UNSET
    reserved: bool = False

    @property
    def flag(self) -> str:
        """The command-line spelling."""
        return "--" + self.name.removeprefix("MILLSTREAM_").lower().replace("_", "-")
