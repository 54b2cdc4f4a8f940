"""One SDK in each room; its errors become the three leaves of tasks.domain.errors here and only here."""
