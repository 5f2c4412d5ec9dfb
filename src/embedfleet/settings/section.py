"""The base of every section of the settings."""

from __future__ import annotations

from pydantic import ConfigDict, ValidationError

from embedfleet.errors import ConfigError, EmbedfleetError
from embedfleet.validation import Checked, first_problem


class Section(Checked):
    """A frozen model that refuses unknown keys, infinity and NaN.

    Made in Python with a wrong value, it raises ConfigError. The value is not shown, as it may be a secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def _error_of(cls, exc: ValidationError) -> EmbedfleetError:
        problem = first_problem(exc)
        return ConfigError(f"setting `{problem.field or cls.__name__}`: {problem.message}")
