"""What all tables are built with: the collection of them, and the types and indexes that they share."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, MetaData, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows itself only in a column of the type INTEGER. It gives the number of a deleted last row
# again, unless the table has `sqlite_autoincrement`: so have those whose rows are deleted and whose numbers
# are remembered elsewhere, as in a receipt.
Id = BigInteger().with_variant(Integer(), "sqlite")
# Positions in a document, and their sums: a day's quota is beyond 32 bits.
Chars = BigInteger()


def partial_index(name: str, *columns: str, where: str) -> Index:
    """Build an index of the rows that meet the condition. It stays small if few rows do."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))
