"""The floor of PostgreSQL itself, by pgbench: setup | enqueue N C | bulk N (COPY from a file)."""
import os, re, subprocess, sys, time
SQL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sql")
BIN = os.environ["PGBIN"]
def psql(*args): return subprocess.run([f"{BIN}/psql", "-Xq", *args], check=True, capture_output=True, text=True).stdout
verb, n, c = sys.argv[1], int((sys.argv + ["0", "0"])[2]), int((sys.argv + ["0", "0", "0"])[3])
if verb == "setup": psql("-f", f"{SQL}/lean.sql")
elif verb == "enqueue":
    # So many transactions a client; its own rate, without the time to connect.
    out = subprocess.run([f"{BIN}/pgbench", "-n", "-M", "prepared", "-c", str(c), "-j", "2", "-t", str(n // c), "-f", f"{SQL}/insert.sql"], check=True, capture_output=True, text=True).stdout
    tps = float(re.search(r"tps = ([0-9.]+) \(without", out).group(1))
    print('OUT {"n":%d,"secs":%.4f}' % (n // c * c, n // c * c / tps))
elif verb == "bulk":
    file = os.path.join(os.environ["PEERS_HOME"], ".run", f"copy.{n}.csv")
    if not os.path.exists(file):
        with open(file, "w") as f: f.write(psql("-c", f"copy (select json_build_object('id',g,'kind','noop','data',repeat('x',160)) from generate_series(1,{n}) g) to stdout csv"))
    t = time.time()
    psql("-c", f"\\copy lean(payload) from '{file}' csv")
    print('OUT {"n":%d,"secs":%.4f}' % (n, time.time() - t))
