"""Where everything is. No other module computes a path, and this one reads nothing but the environment."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

BUILT_IN = "flight_delay"
"""The problem that is worked on where none is named and the home holds none yet."""
DATA_PACKAGES = Path(sys.prefix) / "data"
"""Packages that are there for their files alone (`data.lock`): no import finds them."""


@dataclass(frozen=True)
class Settings:
    """The checkout, the home that holds all state, and the problem that is worked on.

    Attributes:
        root: The checkout: `problems/`, `dbt_project/`, `feature_repo/`, `bentos/`.
        home: All state (`HINDCAST_HOME`). Two homes never disturb each other.
        problem: Name of the file under `problems/`, without its ending. The home may hold others' state beside its own.
    """

    root: Path
    home: Path
    problem: str = "flight_delay"

    @classmethod
    def from_environment(cls) -> "Settings":
        root = Path(os.environ.get("HINDCAST_ROOT") or Path(__file__).parent.parent).resolve()
        home = Path(os.environ.get("HINDCAST_HOME") or root / ".hindcast").resolve()
        return cls(root, home, os.environ.get("HINDCAST_PROBLEM") or BUILT_IN)

    def of(self, problem: str) -> "Settings":
        """The same home, for another problem."""
        return replace(self, problem=problem)

    # What is read
    @property
    def problems_folder(self) -> Path:
        return self.root / "problems"

    @property
    def problem_file(self) -> Path:
        return self.problems_folder / f"{self.problem}.yaml"

    @property
    def sources_folder(self) -> Path:
        return self.problems_folder / "sources"

    def sources_file(self, domain: str) -> Path:
        return self.sources_folder / f"{domain}.yaml"

    @property
    def leaks_folder(self) -> Path:
        """Leaks that the problem wants measured: a declaration and its SQL. A problem needn't have it."""
        return self.root / "problems" / "leaks" / self.problem

    @property
    def dbt_project(self) -> Path:
        return self.root / "dbt_project"

    @property
    def feature_repo(self) -> Path:
        return self.root / "feature_repo"

    def feature_files(self, domain: str) -> list[Path]:
        """What defines a domain's feature views, the YAML of their tables included."""
        described = sorted((self.dbt_project / "models" / domain / "features").glob("*.yml"))
        return [self.feature_repo / "feature_store.yaml", self.feature_repo / f"{domain}.py", *described]

    @property
    def bentos(self) -> Path:
        return self.root / "bentos"

    @property
    def training_code(self) -> list[Path]:
        """Modules of which a change makes another model of the same data."""
        modules = {
            "training": ("search", "training_data", "training_set"),
            "evaluation": ("evaluate",),
            "features": ("asof", "retrieval", "on_demand"),
            "package": ("export", "model"),
        }
        named = [self.root / "hindcast" / room / f"{name}.py" for room, names in modules.items() for name in names]
        return [*named, *sorted((self.root / "hindcast" / "tasks").glob("*.py"))]

    @property
    def workspace_file(self) -> Path:
        """Where the Dagster UI finds the graph."""
        return self.root / "workspace.yaml"

    # What is kept
    @property
    def lake_catalogue(self) -> Path:
        return self.home / "lake" / "catalogue.sqlite"

    @property
    def lake_data(self) -> Path:
        return self.home / "lake" / "data"

    @property
    def duckdb_extensions(self) -> Path:
        return self.home / "duckdb_extensions"

    @property
    def scratch(self) -> Path:
        """What a killed process may leave behind and the next one may delete."""
        return self.home / "scratch"

    @property
    def locks(self) -> Path:
        return self.home / "locks"

    @property
    def turn(self) -> Path:
        """The lock of the run whose turn it is."""
        return self.locks / "run"

    @property
    def turn_holder(self) -> Path:
        """The name of that run, for who waits."""
        return self.locks / "run.holder"

    @property
    def run_locks(self) -> Path:
        """A lock per run, held while its process lives."""
        return self.locks / "runs"

    def clock_file(self, domain: str) -> Path:
        return self.home / "clocks" / f"{domain}.json"

    @property
    def problem_homes(self) -> Path:
        """A folder per problem that this home holds."""
        return self.home / "problems"

    @property
    def of_problem(self) -> Path:
        """What is kept for this problem alone."""
        return self.problem_homes / self.problem

    @property
    def dbt_target(self) -> Path:
        return self.home / "dbt"

    @property
    def feast_registry(self) -> Path:
        return self.home / "feast" / "registry.db"

    @property
    def online_store(self) -> Path:
        return self.home / "feast" / "online.db"

    @property
    def candidates_file(self) -> Path:
        """Fitted candidates on their way from training to packaging; never for a service."""
        return self.of_problem / "candidates.joblib"

    @property
    def challenger_file(self) -> Path:
        """Which package the gate is to judge."""
        return self.of_problem / "challenger.json"

    @property
    def models(self) -> Path:
        return self.of_problem / "models"

    @property
    def champion_file(self) -> Path:
        return self.of_problem / "champion.json"

    @property
    def shadow_file(self) -> Path:
        return self.of_problem / "shadow.json"

    @property
    def verdicts(self) -> Path:
        return self.of_problem / "verdicts"

    @property
    def bento_store(self) -> Path:
        return self.home / "bentoml"

    @property
    def built_bentos(self) -> Path:
        """Which bentos in the store are whole."""
        return self.bento_store / "built.json"

    @property
    def request_log(self) -> Path:
        return self.of_problem / "request_log"

    @property
    def shadow_log(self) -> Path:
        return self.of_problem / "shadow_log"

    @property
    def reports(self) -> Path:
        return self.of_problem / "reports"

    @property
    def failure_file(self) -> Path:
        """Why the main job failed; absent once it has come to its end."""
        return self.of_problem / "failure.json"

    @property
    def checked_file(self) -> Path:
        """Of which contents of the problem's files a check found no fault."""
        return self.of_problem / "checked.json"

    @property
    def stage_seconds(self) -> Path:
        return self.of_problem / "stage_seconds.json"

    @property
    def replay_file(self) -> Path:
        """How far the simulated clock's requests were sent."""
        return self.of_problem / "replay.json"

    @property
    def docs(self) -> Path:
        return self.home / "docs"

    @property
    def future_home(self) -> Path:
        """A home beside this one, where time has gone on: what evaluates a period that lies ahead of the clock."""
        return self.home / "future_home"

    @property
    def benchmarks(self) -> Path:
        """What `make bench` writes, and the homes and the environment of peers that it measures in."""
        return self.home / "bench"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    def environment(self) -> dict[str, str]:
        """What a child process (dbt, Feast, the service, the UI) must find in its environment.

        Telemetry of every tool is off; threads are few because the machine is shared.
        """
        return {
            "HINDCAST_ROOT": str(self.root),
            "HINDCAST_HOME": str(self.home),
            "HINDCAST_PROBLEM": self.problem,
            "HINDCAST_LAKE_CATALOGUE": str(self.lake_catalogue),
            "HINDCAST_LAKE_DATA": str(self.lake_data),
            "HINDCAST_DUCKDB_EXTENSIONS": str(self.duckdb_extensions),
            "HINDCAST_SCRATCH": str(self.scratch),
            "DAGSTER_HOME": str(self.dagster_home),
            "BENTOML_HOME": str(self.bento_store),
            "DBT_PROFILES_DIR": str(self.dbt_project),
            "DBT_TARGET_PATH": str(self.dbt_target),
            "DBT_LOG_PATH": str(self.dbt_target / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_VERSION_CHECK": "false",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "BENTOML_DO_NOT_TRACK": "True",
            "FEAST_USAGE": "False",
            "ORT_DISABLE_TELEMETRY": "1",
            # Pandera's import would otherwise make Arrow take zoned datetimes for UTC.
            "PYARROW_IGNORE_TIMEZONE": os.environ.get("PYARROW_IGNORE_TIMEZONE", ""),
            "DO_NOT_TRACK": "1",
            "MPLCONFIGDIR": str(self.scratch / "matplotlib"),  # its list of fonts, else kept in the user's own home
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
