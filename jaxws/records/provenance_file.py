"""Reading provenance.json, for which no JAX is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxws.records.record_format import check_provenance
from jaxws.system.atomic import read_plain
from jaxws.system.json_text import parse_json

NAME = "provenance.json"


def read(workdir: Path) -> dict[str, Any]:
    """Reads a run's provenance.

    Args:
      workdir: of the run.

    Returns:
      ``data``, see :func:`jaxws.records.provenance.data_facts`, and ``stretches``, each as
      :func:`jaxws.records.provenance.session_facts` with ``last_step``, ``seconds`` and
      ``local_conv``, implementations of LC layers in use; empty where the file is missing.

    Raises:
      ValueError: the file is not what was written.
      OSError: it cannot be read.
    """
    file = workdir / NAME
    try:
        return check_provenance(parse_json(read_plain(file)))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(
            f"{file} is not what jaxws writes ({error}): bring it back, or remove it to"
            " go on without; nothing was changed."
        ) from error
