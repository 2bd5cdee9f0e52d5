#!/usr/bin/env python3
"""report.py [FILE]: medians of raw/figs.tsv as Markdown, and how they stand to the goals. `other` is the CPU (in cores) that unrelated programs used
meanwhile: figures with more than 0.3 are left out when there are two better ones."""
import collections, os, statistics, sys

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.environ.get("PEERS_HOME", f"{HERE}/.work")
os.environ.setdefault("PEERS_HOME", HOME)
import peers as P

FILE = sys.argv[1] if len(sys.argv) > 1 else f"{HOME}/raw/figs.tsv"
KEYS = ("peer", "cfg", "metric", "others", "processes")
US = "relaydesk"
FLOORS = ("floor-pgbench", "floor-rust")


def read():
    groups = collections.OrderedDict()
    with open(FILE) as f:
        for line in f:
            fields = dict(cell.split("=", 1) for cell in line.rstrip("\n").split("\t")[1].split(" "))
            if "error" in fields or fields.get("tag") == "smoke" and not os.environ.get("SMOKE"): continue
            groups.setdefault(tuple(fields.get(key, "") for key in KEYS), []).append(fields)
    for key, runs in groups.items():
        calm = [run for run in runs if float(run.get("other", 0)) <= 0.3]
        if len(calm) >= 2: groups[key] = calm
    return groups


GROUPS = read()


def all_(field, peer, metric, cfg=None, **more):
    for key, runs in GROUPS.items():
        named = dict(zip(KEYS, key))
        if named["peer"] == peer and named["metric"] == metric and cfg in (None, named["cfg"]) and all(named[k] == v for k, v in more.items()):
            return [float(run[field]) for run in runs if field in run]
    return []


def median(*args, **more):
    values = all_(*args, **more)
    return statistics.median(values) if values else None


def show(x):
    if x is None: return "–"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def cell(values):
    if not values: return "–"
    return show(values[0]) if len(values) == 1 else f"{show(statistics.median(values))} ({show(min(values))}–{show(max(values))})"


def settings(metric): return [(dict(zip(KEYS, key))["peer"], dict(zip(KEYS, key))["cfg"]) for key in GROUPS if key[2] == metric]


def best(field, metric, peers, least=False):
    """(value, peer and setting) of the best median."""
    found = [(median(field, peer, metric, cfg), f"{peer} {cfg}".strip()) for peer, cfg in settings(metric) if peer in peers]
    found = [pair for pair in found if pair[0] is not None]
    return (min if least else max)(found) if found else (None, "nobody")


def table(title, head, rows):
    if not rows: return
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows: print(f"| {' | '.join(row)} |")


def ratio(a, b): return a / b if a is not None and b else None


def goals():
    runners = [name for name, peer in P.PEERS.items() if peer.get("runner") and name != US]
    on_postgres = [name for name in P.ON_POSTGRES if name != US and name not in FLOORS]
    rows = []

    def goal(what, value, limit, against, at_least=True):
        if value is None: return rows.append((what, "–", against, "not measured"))
        reached = value >= limit if at_least else value <= limit
        rows.append((what, f"{value:.2f} ×" if limit < 100 else show(value), against, "yes" if reached else "**no**"))

    rate, who = best("jobs_per_s", "drain", runners)
    for cfg in ("history", "no-history"):
        goal(f"drain, {cfg} ≥ 1.5 × the best job runner on PostgreSQL", ratio(median("jobs_per_s", US, "drain", cfg), rate), 1.5, f"{who}: {show(rate)}/s")
    for callers in (1, 16):
        metric = f"enqueue_c{callers}"
        floor, (most, who) = median("jobs_per_s", "floor-pgbench", metric), best("jobs_per_s", metric, on_postgres)
        for by in P.PEERS[US]["api"]:
            ours = median("jobs_per_s", US, metric, by)
            goal(f"enqueue by {by}, callers: {callers} ≥ 0.75 × a single insert and commit", ratio(ours, floor), 0.75, f"pgbench: {show(floor)}/s")
            goal(f"enqueue by {by}, callers: {callers}, above every peer on PostgreSQL", ratio(ours, most), 1, f"{who}: {show(most)}/s")
    most, who = best("jobs_per_s", "bulk", on_postgres)
    goal("bulk ≥ 2 × the best peer", ratio(median("jobs_per_s", US, "bulk"), most), 2, f"{who}: {show(most)}/s")
    for at in ("p50", "p99"):
        # The least of each column: of different peers, perhaps.
        least, who = best(at, "latency", on_postgres, least=True)
        floor = median(at, "floor-rust", "latency")
        for cfg in ("apart", "together"):
            ours = median(at, US, "latency", cfg)
            goal(f"pickup {at}, {cfg} ≤ the best peer's", ratio(ours, least), 1, f"{who}: {show(least)} ms", at_least=False)
            goal(f"pickup {at}, {cfg} ≤ 2 × the floor of NOTIFY", ratio(ours, floor), 2, f"{show(floor)} ms", at_least=False)

    def cpu(peer, cfg):
        parts = [median(field, peer, "drain", cfg) for field in ("worker_cpu_ms_per_1k", "server_cpu_ms_per_1k")]
        return None if None in parts else sum(parts)
    used = [(cpu(peer, cfg), f"{peer} {cfg}") for peer, cfg in settings("drain") if peer in runners and cpu(peer, cfg) is not None]
    fastest = best("jobs_per_s", "drain", runners)[1]
    if used:
        least = next((pair for pair in used if pair[1] == fastest), min(used))
        for cfg in ("history", "no-history"):
            goal(f"CPU of worker and server per job, {cfg} ≤ the best job runner's", ratio(cpu(US, cfg), least[0]), 1, f"{least[1]}: {show(least[0])} ms for 1,000", at_least=False)
    ours = median("cpu_ms_per_s", US, "idle")
    goal("idle worker ≤ 1 % of a core", ours / 10 if ours is not None else None, 1, "of a core, in percent", at_least=False)
    beside, empty = median("jobs_per_s", US, "drain_beside", others="all"), median("jobs_per_s", US, "drain_beside", others="none")
    goal("drain beside 3 × 1,000,000 other jobs ≥ 0.8 × alone", ratio(beside, empty), 0.8, f"alone: {show(empty)}/s")
    celery = median("jobs_per_s", "celery", "drain")
    goal("drain on RabbitMQ ≥ 3 × Celery", ratio(median("jobs_per_s", "relaydesk-rabbitmq", "drain"), celery), 3, f"{show(celery)}/s")
    table("Goals", ("goal", "figure", "against", "reached"), rows)


def name(peer): return f"{peer} {P.PEERS[peer]['version']}".strip()


def main():
    print("## Side by side\n\nMedians (least–most) of the runs that were not disturbed; jobs per second unless it says otherwise.")
    goals()
    rows = []
    for peer in P.PEERS:
        by = [cfg for who, cfg in settings("enqueue_c1") if who == peer]
        if not by: continue
        bulk = "; ".join(f"{cfg}: {cell(all_('jobs_per_s', peer, 'bulk', cfg))}" for who, cfg in settings("bulk") if who == peer) or "–"
        for cfg in by:
            title = name(peer) if len(by) == 1 else f"{name(peer)}, by {cfg}"
            rows.append((title, cell(all_("jobs_per_s", peer, "enqueue_c1", cfg)), cell(all_("jobs_per_s", peer, "enqueue_c16", cfg)), bulk,
                         show(median("server_cpu_ms_per_1k", peer, "enqueue_c16", cfg)), show(median("wal_bytes_per_job", peer, "enqueue_c16", cfg))))
    table("Enqueue", ("", "one a call, 1 caller", "16 callers", "batches of 1,000", "server CPU, ms/1,000 (16)", "WAL bytes/job (16)"), rows)
    rows = []
    for peer, cfg in settings("drain"):
        of = lambda field: show(median(field, peer, "drain", cfg))
        rows.append((name(peer), cfg, cell(all_("jobs_per_s", peer, "drain", cfg)), of("secs"), of("worker_cpu_ms_per_1k"), of("server_cpu_ms_per_1k"),
                     of("wal_bytes_per_job"), of("dead_tuples_per_job"), of("cold_updates_per_job"), of("rss_peak_mb")))
    table("Drain of a backlog, one worker process", ("", "settings", "jobs/s", "seconds", "worker CPU, ms/1,000", "server CPU, ms/1,000", "WAL bytes/job", "dead tuples/job", "updates that are not HOT/job", "worker MB"), rows)
    rows = [(name(peer), cfg, cell(all_("p50", peer, "latency", cfg)), show(median("p95", peer, "latency", cfg)), cell(all_("p99", peer, "latency", cfg)), show(median("max", peer, "latency", cfg)),
             show(median("e2e_p50", peer, "latency", cfg)), show(median("e2e_p99", peer, "latency", cfg)), show(median("server_cpu_ms_per_s", peer, "latency", cfg))) for peer, cfg in settings("latency")]
    table("Pickup at 100 jobs/s, ms: from the answer of the enqueue (e2e: its call) to the start of the handler", ("", "settings", "p50", "p95", "p99", "max", "e2e p50", "e2e p99", "server CPU, ms/s"), rows)
    rows = [(name(peer), cfg, show(median("rss_mb", peer, "idle", cfg)), show(median("cpu_ms_per_s", peer, "idle", cfg)), show(median("server_cpu_ms_per_s", peer, "idle", cfg))) for peer, cfg in settings("idle")]
    table("Idle worker", ("", "settings", "MB", "worker CPU, ms/s", "server CPU, ms/s"), rows)
    one = median("jobs_per_s", US, "drain_processes", processes="1")
    rows = [(count, cell(all_("jobs_per_s", US, "drain_processes", processes=count)), show(ratio(median("jobs_per_s", US, "drain_processes", processes=count), one))) for count in ("1", "2", "4") if all_("jobs_per_s", US, "drain_processes", processes=count)]
    table("Relaydesk's worker processes on this machine", ("processes", "jobs/s", "× one"), rows)
    rows = [({"none": "alone", "all": "beside a million finished, a million scheduled and a million waiting"}[others], cell(all_("jobs_per_s", US, "drain_beside", others=others)),
             show(median("server_cpu_ms_per_1k", US, "drain_beside", others=others)), show(median("wal_bytes_per_job", US, "drain_beside", others=others))) for others in ("none", "all") if all_("jobs_per_s", US, "drain_beside", others=others)]
    table("Relaydesk beside other jobs", ("", "jobs/s", "server CPU, ms/1,000", "WAL bytes/job"), rows)


if __name__ == "__main__": main()
