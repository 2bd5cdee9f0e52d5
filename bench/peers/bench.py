#!/usr/bin/env python3
"""bench.py PART… [--peers a,b] [--reps 3] [--smoke]: runs parts of the comparison against running servers, prints a line per figure and appends
it to $PEERS_HOME/raw/figs.tsv. `run.sh` starts the servers around it. Standard library only.

The repetitions are outermost: every peer once, then all again, so that what the machine does meanwhile meets all of them."""
import argparse, glob, json, os, re, shutil, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.environ["PEERS_HOME"]
import peers as P

PGPORT, PGBIN = os.environ["PGPORT"], os.environ["PGBIN"]
TICKS = os.sysconf("SC_CLK_TCK")
SMOKE = False
ENV = dict(os.environ, C_FORCE_ROOT="1", NODE_ENV="production", PBDIR=f"{HOME}/.run", PYTHONDONTWRITEBYTECODE="1")


# -- PostgreSQL ------------------------------------------------------------------------------------------------------

def sql(query, db="postgres"):
    done = subprocess.run([f"{PGBIN}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db, "-c", query], env=ENV, capture_output=True, text=True)
    if done.returncode: raise RuntimeError(f"{query[:80]}: {done.stderr.strip()}")
    return done.stdout.strip()


def url(db): return f"postgres://postgres@127.0.0.1:{PGPORT}/{db}"
def drop(db): sql(f"drop database if exists {db} with (force)")


def copy(template, db):
    """Ends with a checkpoint, so that full page images are counted alike."""
    drop(db)
    large = int(sql(f"select pg_database_size('{template}')")) > 50_000_000 and int(sql("show server_version_num")) >= 150000
    sql(f"create database {db} template {template}" + (" strategy file_copy" if large else ""))
    if not large: sql("checkpoint")


def seal(db):
    """Nobody connects any more, autovacuum included, so that it can be copied."""
    sql("vacuum analyze", db)
    sql(f"alter database {db} allow_connections false")
    sql(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{db}'")
    for _ in range(100):
        if sql(f"select count(*) from pg_stat_activity where datname = '{db}'") == "0": return
        time.sleep(0.05)


MADE = set()


def prepared(name, config, jobs=0):
    """The name of a database with this peer's schema and a backlog of so many jobs, made once a session."""
    peer = P.PEERS[name]
    variant = "_".join(["pb", re.sub(r"\W", "_", name), re.sub(r"\W", "_", config), str(jobs)]).lower()
    if variant in MADE: return variant
    MADE.add(variant)
    drop(variant)
    sql(f"create database {variant}")
    settings = settings_of(peer, config)
    if "sql" in peer:
        # Its tables come with its source only.
        crates = os.path.join(os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo")), "registry/src/*")
        for file in sorted(glob.glob(f"{crates}/{peer['sql']}")):
            subprocess.run([f"{PGBIN}/psql", "-Xqf", file, variant], env=ENV, capture_output=True, check=True)
    else:
        run(peer, ["setup"], settings, variant)
    if jobs: fill(peer, settings, jobs, variant)
    seal(variant)
    return variant


def fill(peer, settings, jobs, db=None):
    settings = dict(settings, **peer.get("fill", {}))
    verb = ["bulk", str(jobs), "1000"] if "bulk" in peer else ["enqueue", str(jobs), "16"]
    figures, _ = run(peer, verb, settings, db)
    if not figures: raise RuntimeError("the backlog could not be made")
    return figures["n"]


def work_done(db):
    """What the tables of a fresh copy have seen since; counted by the server when the connections are gone."""
    for _ in range(100):
        if sql(f"select count(*) from pg_stat_activity where datname = '{db}' and backend_type = 'client backend'") == "0": break
        time.sleep(0.05)
    row = sql("select sum(n_tup_upd), sum(n_tup_hot_upd), sum(n_tup_del), sum(n_dead_tup) from pg_stat_user_tables", db).split("|")
    return [int(cell or 0) for cell in row]


def wal(): return int(sql("select (pg_current_wal_insert_lsn() - '0/0')::bigint"))


# -- processes -------------------------------------------------------------------------------------------------------

def stat(pid):
    with open(f"/proc/{pid}/stat") as f: fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[1]), sum(map(int, fields[11:15])) / TICKS


def tree_cpu(root):
    """Of a process and its descendants, the reaped ones included."""
    if not root: return 0.0
    children, cpu = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent, used = stat(int(pid))
            children.setdefault(parent, []).append(int(pid))
            cpu[int(pid)] = used
        except OSError: pass
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += cpu.get(pid, 0)
        todo += children.get(pid, [])
    return total


def listener(port):
    out = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True).stdout
    found = re.search(r"pid=(\d+)", out)
    return int(found.group(1)) if found else 0


def servers():
    try:
        with open(f"{HOME}/pg/data/postmaster.pid") as f: postmaster = int(f.readline())
    except OSError: postmaster = 0
    return dict(pg=postmaster, mq=listener(os.environ["AMQP_PORT"]), redis=listener(os.environ["REDIS_PORT"]))


def busy():
    with open("/proc/stat") as f: fields = list(map(int, f.readline().split()[1:9]))
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / TICKS


def quiet(patience=float(os.environ.get("PEERS_QUIET", "3"))):
    """Waits until the rest of the machine is nearly idle."""
    started = time.time()
    while time.time() - started < patience:
        before, mine = busy(), sum(os.times()[:4])
        time.sleep(0.5)
        if busy() - before - (sum(os.times()[:4]) - mine) < 0.2: return


def settings_of(peer, config):
    for what in ("drain", "latency", "idle", "bulk"):
        if config in peer.get(what, {}):
            found = peer[what][config]
            return found[1] if isinstance(found, tuple) else found
    return peer.get("base", {})


def run(peer, words, settings, db=None, timeout=300):
    """The figures that the program prints, and what was used meanwhile."""
    env = dict(ENV, **{k: v for k, v in settings.items() if k != "args"})
    if db: env.update(DATABASE_URL=url(db), PGDATABASE=db)
    roots = servers()
    before, wal0, busy0, mine0, t0 = {k: tree_cpu(p) for k, p in roots.items()}, wal() if roots["pg"] else 0, busy(), sum(os.times()[:4]), time.time()
    process = subprocess.Popen(peer["cmd"] + words + settings.get("args", []), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HOME)
    try: out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += "TIMEOUT"
    wall, mine, all_ = time.time() - t0, sum(os.times()[:4]) - mine0, busy() - busy0
    used = {k: tree_cpu(p) - before[k] for k, p in roots.items() if p}
    found = re.findall(r"^(?:OUT )?(\{.*\})$", out, re.M)
    if words[0] != "setup" and not found or process.returncode:
        print(f"!! {' '.join(words)}: {process.returncode} {out[-200:]} {err[-700:]}", file=sys.stderr, flush=True)
    figures = json.loads(found[-1]) if found and not process.returncode else None
    meta = dict(wall=wall, prog_cpu=mine, server_cpu=sum(used.values()), wal=(wal() - wal0) if roots["pg"] else 0, other=max(0, all_ - mine - sum(used.values())) / wall)
    return figures, meta


def measured(*args, **kwargs):
    quiet()
    return run(*args, **kwargs)


def fig(**fields):
    if SMOKE: fields["tag"] = "smoke"
    line = " ".join(f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in fields.items())
    print("FIG", line, flush=True)
    with open(f"{HOME}/raw/figs.tsv", "a") as f: f.write(time.strftime("%FT%T") + "\t" + line + "\n")


# -- steps -----------------------------------------------------------------------------------------------------------

def small(n, least): return min(n, least) if SMOKE else n


def has_db(peer): return peer["on"].endswith("db")


def ready(name, config, jobs=0):
    """Fresh state for one figure; the database's name."""
    peer = P.PEERS[name]
    if not has_db(peer):
        settings = settings_of(peer, config)
        run(peer, ["setup"], settings)
        if jobs:
            fill(peer, settings, jobs)
            time.sleep(1)
        return None
    copy(prepared(name, config, jobs), "pb_run")
    return "pb_run"


def enqueue(rep, name):
    peer = P.PEERS[name]
    for config, settings in peer.get("api", {"api": peer.get("base", {})}).items():
        for callers, jobs in zip((1, 16), peer["enqueue"]):
            db = ready(name, "api")
            figures, meta = measured(peer, ["enqueue", str(small(jobs, 400)), str(callers)], settings, db)
            if figures: fig(peer=name, cfg=config, metric=f"enqueue_c{callers}", rep=rep, **rate(figures, meta))
    if "bulk" in peer:
        for config, (jobs, env) in peer["bulk"].items():
            db = ready(name, "api")
            figures, meta = measured(peer, ["bulk", str(small(jobs, 3000)), "1000"], dict(peer.get("base", {}), **env), db)
            if figures: fig(peer=name, cfg=config, metric="bulk", rep=rep, **rate(figures, meta))


def rate(figures, meta):
    n = figures["n"]
    cpu = figures.get("cpu", meta["prog_cpu"])
    return dict(jobs_per_s=n / figures["secs"], n=n, secs=figures["secs"], worker_cpu_ms_per_1k=cpu * 1e6 / n, server_cpu_ms_per_1k=meta["server_cpu"] * 1e6 / n,
                wal_bytes_per_job=meta["wal"] / n, other=meta["other"])


def drain(rep, name, config, metric="drain", settings=None, db=None, **more):
    peer = P.PEERS[name]
    jobs, usual = peer["drain"][config]
    jobs = more.pop("jobs", None) or small(jobs, 3000)
    jobs -= jobs % 16  # what sixteen callers can share
    db = db or ready(name, config, jobs)
    figures, meta = measured(peer, ["drain", str(jobs)], settings or usual, db)
    if not figures: return fig(peer=name, cfg=config, metric=metric, rep=rep, error="failed", **more)
    extra = dict(rss_peak_mb=float(figures.get("hwm", -1)), **more)
    if db:
        updates, hot, deletes, dead = work_done(db)
        extra.update(dead_tuples_per_job=(updates + deletes) / jobs, cold_updates_per_job=(updates - hot) / jobs, dead_left_per_job=dead / jobs)
    fig(peer=name, cfg=config, metric=metric, rep=rep, **rate(figures, meta), **extra)


def latency(rep, name, config):
    peer, seconds = P.PEERS[name], 2 if SMOKE else 10
    settings = peer["latency"][config]
    db = ready(name, config)
    d, meta = measured(peer, ["latency", "100", str(seconds)], settings, db)
    if d: fig(peer=name, cfg=config, metric="latency", rep=rep, n=d["n"], p50=float(d["p50"]), p95=float(d["p95"]), p99=float(d["p99"]), max=float(d["max"]), e2e_p50=float(d["e50"]), e2e_p99=float(d["e99"]),
              server_cpu_ms_per_s=meta["server_cpu"] * 1000 / meta["wall"], prog_cpu_ms_per_s=meta["prog_cpu"] * 1000 / meta["wall"], other=meta["other"])


def idle(rep, name, config):
    peer, seconds = P.PEERS[name], 1 if SMOKE else 6
    db = ready(name, config)
    d, meta = measured(peer, ["idle", str(seconds)], peer["idle"][config], db)
    if d: fig(peer=name, cfg=config, metric="idle", rep=rep, rss_mb=float(d["rss"]), cpu_ms_per_s=d["cpu_per_s"] * 1000, server_cpu_ms_per_s=meta["server_cpu"] * 1000 / meta["wall"], other=meta["other"])


def bloat(reps):
    """Relaydesk's drain beside a million finished, a million scheduled and a million waiting jobs, and without them, in turns."""
    name, others = "relaydesk", small(1_000_000, 2000)
    peer = P.PEERS[name]
    jobs = small(peer["drain"]["history"][0], 3200)
    for state in ("none", "all"):
        copy(prepared(name, "history"), f"pb_{state}")
        if state == "all":
            for kind in ("done", "scheduled", "waiting"): run(peer, ["fill", kind, str(others)], {}, "pb_all")
    for rep in range(1, reps + 1):
        for state in ("none", "all"):
            fill(peer, {}, jobs, f"pb_{state}")
            sql("vacuum analyze", f"pb_{state}")
            sql("checkpoint")
            drain(rep, name, "history", metric="drain_beside", db=f"pb_{state}", jobs=jobs, others=state)
    for state in ("none", "all"): drop(f"pb_{state}")


def processes(rep):
    for count in (1, 2, 4):
        # As processes of their own all three times; the same jobs in all for each.
        drain(rep, "relaydesk", "history", metric="drain_processes", settings=P.relaydesk("--apart", "--processes", str(count)), processes=count)


def plan(part, only):
    def of(names, what):
        return [(name, config) for name in names if name in only for config in P.PEERS[name].get(what, {})]
    broker = [name for name, peer in P.PEERS.items() if peer["on"] in ("mq", "mq+db")]
    return {
        "enqueue": [(enqueue, name) for name in P.ON_POSTGRES if name in only],
        "drain": [(drain, *pair) for pair in of(P.ON_POSTGRES, "drain")],
        "processes": [(processes,)] if "relaydesk" in only else [],
        "latency": [(latency, *pair) for pair in of(P.ON_POSTGRES, "latency")],
        "idle": [(idle, *pair) for pair in of(P.ON_POSTGRES, "idle")],
        "broker": [(drain, *pair) for pair in of(broker, "drain")],
        "broker-latency": [(latency, *pair) for pair in of(broker, "latency")],
        "redis": [(enqueue, "bullmq"), (drain, "bullmq", "c100")] if "bullmq" in only else [],
    }[part]


def main():
    global SMOKE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+")
    parser.add_argument("--peers", default=",".join(P.PEERS))
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="tiny numbers: does everything work?")
    args = parser.parse_args()
    SMOKE = args.smoke
    os.makedirs(f"{HOME}/.run", exist_ok=True)
    for file in glob.glob(f"{HERE}/src/node/*.mjs"): shutil.copy(file, f"{HOME}/.installs/node/")
    only = args.peers.split(",")
    for part in args.parts:
        started = time.time()
        if part == "bloat": bloat(args.reps)
        else:
            for rep in range(1, args.reps + 1):
                for step, *words in plan(part, only):
                    if part == "idle" and rep > 2: continue
                    try: step(rep, *words)
                    except (RuntimeError, subprocess.CalledProcessError) as error: print(f"!! {step.__name__} {words}: {error}", file=sys.stderr, flush=True)
        print(f"-- {part}: {time.time() - started:.0f} s", flush=True)
    if servers()["pg"]:
        for db in sql("select datname from pg_database where datname like 'pb\\_%'").split(): drop(db)


if __name__ == "__main__": main()
