"""Where Feast's registry is, for whoever opens the feature repository without Hindcast: Feast's command, a notebook."""

from pathlib import Path

from hindcast.features.feast_imports import FileRegistryStore, RegistryConfig
from hindcast.settings import Settings


class HomeRegistryStore(FileRegistryStore):
    """The home's registry file. Named in `feature_store.yaml`; a `path` there stands in its place."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        path = registry_config.path or str(Settings.from_environment().feast_registry)
        super().__init__(registry_config.model_copy(update={"path": path}), repo_path)
        Path(repo_path, path).parent.mkdir(parents=True, exist_ok=True)  # Feast writes an empty one where there is none
