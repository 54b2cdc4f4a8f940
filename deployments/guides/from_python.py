"""Kitestring from Python, as cells of a notebook or a script. Run it from the root of the checkout: python deployments/guides/from_python.py

It embeds 24 sentences about kites on this machine, into a Milvus Lite file.
"""

# %% Read a job from a file, or build it from the same keys. Keyword arguments override single settings of the file.
from prefect import flow

from flows.api import Hit, RunResult, make_job, read_job, run, search, status
from tasks.domain.errors import BadInput

job = read_job("deployments/jobs/kites.yaml", shards__rows=12)

# %% Run it: progress is printed, and the result has typed figures. Another run encodes nothing again.
result: RunResult = run(job)
print(f"{result.rows.loaded} rows are searchable, {'verified' if result.verified else 'not verified'}; the report: {result.report}")

# %% Search it.
hits: list[Hit] = search(job, "a kite made of two boxes of cloth", 3)
for hit in hits:
    print(f"{hit.score:.3f}  {hit.id}  {hit.fields['text']}")

# %% Its status, and an error message.
print(status(job).shards)
try:
    make_job(corpus="kites", source={"kind": "jsonl", "uri": "deployments/kites.jsonl"}, targt={})
except BadInput as error:
    print(error)


# %% Within your own Prefect flow it runs as a subflow, and the UI shows it there.
@flow
def nightly() -> RunResult:
    """Embed new rows before later steps use them."""
    return run(job)


# %% All of this works inside an event loop, as in a notebook. `nightly()` needs the server of PREFECT_API_URL; `run(job)` starts its own.
