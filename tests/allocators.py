"""pyarrow and deltalake without their allocators' background threads, in pytest's own process; imported before anything imports those.

Such a thread blocks every signal: a crash in it ends the process without a word, no handler is called. What the tests start has them.
"""

import os

SETTINGS = dict.fromkeys(("JE_ARROW_MALLOC_CONF", "_RJEM_MALLOC_CONF"), "background_thread:false")

os.environ.update(SETTINGS)
import deltalake  # noqa: E402, F401
import pyarrow as pa  # noqa: E402, F401

for name in SETTINGS:
    del os.environ[name]
