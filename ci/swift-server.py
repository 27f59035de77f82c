"""Serve OpenStack Swift with its S3 interface on 127.0.0.1, in one process, for tests that must see it refused.

Run by the Python that `ci/servers install` set up: `python ci/swift-server.py FOLDER PORT ACCOUNT:USER SECRET`.
"""

import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import eventlet  # noqa: E402 - it warns of its age when it is imported

eventlet.monkey_patch()

# All others come behind the patch, or they would block each other.
from eventlet import wsgi  # noqa: E402
from swift.common import storage_policy, utils  # noqa: E402
from swift.common.ring.builder import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

KINDS = ("account", "container", "object")
CLUSTER = """\
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = one
default = yes
"""
STORE = """\
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
[app:main]
use = egg:swift#{kind}
"""
PROXY = """\
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo copy proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:copy]
use = egg:swift#copy
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


def read_cluster(path: Path) -> None:
    """Take the cluster's settings from a file of ours: Swift looks below /etc alone."""
    path.write_text(CLUSTER)
    for module in list(sys.modules.values()):
        if hasattr(module, "SWIFT_CONF_FILE"):
            module.SWIFT_CONF_FILE = str(path)
    utils.validate_hash_conf()
    storage_policy.reload_storage_policies()


def make_ring(folder: Path, kind: str, port: int) -> None:
    builder = RingBuilder(2, 1, 0)
    builder.add_dev(
        {
            "id": 0, "region": 1, "zone": 1, "device": "disk", "weight": 1.0, "ip": "127.0.0.1", "port": port,
            "replication_ip": "127.0.0.1", "replication_port": port, "meta": "",
        }
    )  # fmt: skip
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))


def serve(folder: Path, name: str, settings: str, listening: object) -> None:
    path = folder / f"{name}.conf"
    path.write_text(settings)
    with (folder / f"{name}.log").open("w") as log:
        wsgi.server(listening, loadapp(str(path), global_conf={"log_name": name}), log)


def main(folder: Path, port: int, user: str, secret: str) -> None:
    read_cluster(folder / "swift.conf")
    (folder / "devices/disk").mkdir(parents=True)
    for kind in KINDS:
        listening = eventlet.listen(("127.0.0.1", 0))
        make_ring(folder, kind, listening.getsockname()[1])
        eventlet.spawn_n(serve, folder, kind, STORE.format(folder=folder, kind=kind), listening)
    settings = PROXY.format(folder=folder, user=user.replace(":", "_"), secret=secret)
    serve(folder, "proxy", settings, eventlet.listen(("127.0.0.1", port)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
