"""`adapter/image=lora`: the choices of the group `adapter`, offered once more below the name of every tower.

Hydra looks a choice up in its sources; here they answer for `adapter/<tower>/<choice>` with `adapter/<choice>`, so that an
adapter stays one file, wherever that lies, and Hydra does all else as for any group.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hydra._internal.core_plugins import file_config_source, importlib_resources_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

from mmexp import swapped_towers

GROUP = "adapter"
# Those of conf/train.yaml; of another name, such as that of a second column of texts, the choice is added.
KNOWN = ("image", "text", "audio", "video", "fusion")
_READ: dict[tuple[str, str], ConfigResult] = {}


def _shared(path: str) -> str:
    """Return where a choice for a tower stands: `adapter/image/lora` -> `adapter/lora`."""
    words = path.split("/")
    return f"{GROUP}/{words[2]}" if len(words) == 3 and words[0] == GROUP else path


class _PerTower:
    """What is asked below the name of a tower is what stands in the group itself."""

    def load_config(self, config_path: str) -> ConfigResult:
        result: ConfigResult = super().load_config(_shared(config_path))  # type: ignore[misc]
        swapped_towers.without_swapped(config_path, result.config, self._content)
        return result

    def _content(self, path: str) -> Any:
        return super().load_config(path).config if self.is_config(path) else None  # type: ignore[misc]

    def is_config(self, config_path: str) -> bool:
        return super().is_config(_shared(config_path))  # type: ignore[misc]

    def is_group(self, config_path: str) -> bool:
        there: bool = super().is_group(config_path)  # type: ignore[misc]
        return there or self._is_tower(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> Any:
        return super().list(GROUP if self._is_tower(config_path) else config_path, results_filter)  # type: ignore[misc]

    def _is_tower(self, path: str) -> bool:
        words = path.split("/")
        tower = len(words) == 2 and words[0] == GROUP and words[1].isidentifier()
        return tower and not self.is_config(path) and self.is_group(GROUP)


# Named as Hydra's own: in a launcher's worker it registers these again, and keeps what has the same name.
class ImportlibResourcesConfigSource(_PerTower, importlib_resources_config_source.ImportlibResourcesConfigSource):
    """Configuration in packages, each of whose files is read once: a sweep composes one run after the other."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return what stands in a file. Raises ConfigLoadError where it is not there."""
        # Hydra's own configuration is such a package too.
        place = self.path, _shared(config_path)
        if place not in _READ:
            _READ[place] = super(_PerTower, self).load_config(_shared(config_path))
        result = deepcopy(_READ[place])
        swapped_towers.without_swapped(config_path, result.config, self._content)
        return result


class FileConfigSource(_PerTower, file_config_source.FileConfigSource):
    """A folder, such as that of --config-dir."""


def register() -> None:
    """Have Hydra look its choices up so."""
    Plugins.instance()  # Hydra's own sources are there only then
    swapped_towers.register()
    own = (ImportlibResourcesConfigSource, FileConfigSource)
    SourcesRegistry.instance().types.update({source.scheme(): source for source in own})


def added(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, those for towers that conf/train.yaml does not name as additions.

    `resume` is a value and no group of keys, so that `resume.allow` is spelled `resume_allow` there.
    """
    overrides = [re.sub(r"^(\+*)resume\.allow=", r"\1resume_allow=", override) for override in overrides]
    own = re.compile(rf"{GROUP}/(?!(?:{'|'.join(KNOWN)})=)\w+=")
    return [f"+{override}" if own.match(override) else override for override in overrides]
