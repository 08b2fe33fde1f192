"""Swarm calls of docker-py against a socket; prints one JSON object of what it saw."""
import io
import json
import sys
import tarfile
import time

import docker

socket = sys.argv[1]
seen = {}
low = docker.APIClient(base_url="unix://" + socket, version="auto", timeout=60)
client = docker.DockerClient(base_url="unix://" + socket, timeout=60)


def until(what, probe, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = probe()
        if value:
            return value
        time.sleep(0.2)
    raise SystemExit("not in time: " + what)


def refused(work):
    try:
        work()
        return None
    except docker.errors.APIError as error:
        return [error.response.status_code, error.explanation]


client.swarm.reload()
seen["swarm"] = client.swarm.attrs["Spec"]["Name"]
seen["token"] = client.swarm.attrs["JoinTokens"]["Worker"][:9]
client.swarm.update(task_history_retention_limit=4)
client.swarm.reload()
seen["history"] = client.swarm.attrs["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"]
node = client.nodes.list(filters={"role": "manager"})[0]
spec = dict(node.attrs["Spec"], Labels={"zone": "a"})
seen["node"] = [node.update(spec), client.nodes.get(node.id).attrs["Spec"]["Labels"]]

secret = client.secrets.create(name="py-secret", data=b"hush", labels={"a": "b"})
config = client.configs.create(name="py-config", data=b"value")
network = client.networks.create("py-net", driver="overlay", attachable=True)
seen["secret"] = [client.secrets.get(secret.id).name, refused(
    lambda: client.secrets.create(name="py-secret", data=b"x"))]
seen["config"] = client.configs.list(filters={"name": "py-config"})[0].name
seen["network"] = [network.attrs.get("Scope"), network.attrs.get("Driver")]

types = docker.types
service = client.services.create(
    sys.argv[2], name="py-web", env=["A=1"], labels={"team": "blue"}, container_labels={"c": "d"},
    mode=types.ServiceMode("replicated", replicas=2), networks=["py-net"],
    secrets=[types.SecretReference(secret.id, "py-secret")],
    configs=[types.ConfigReference(config.id, "py-config")],
    constraints=["node.role==manager"],
    resources=types.Resources(mem_limit=64 << 20, cpu_reservation=1000000),
    restart_policy=types.RestartPolicy(condition="on-failure", delay=1, max_attempts=3),
    update_config=types.UpdateConfig(parallelism=2, delay=0),
    endpoint_spec=types.EndpointSpec(ports={8181: 8080}), stop_grace_period=1000000000)


def running(count):
    tasks = service.tasks(filters={"desired-state": "running"})
    return len([t for t in tasks if t["Status"]["State"] == "running"]) == count


until("two running tasks", lambda: running(2))
service.reload()
seen["service"] = [service.name, service.attrs["Spec"]["Labels"],
                   service.attrs["Endpoint"]["Ports"][0]["PublishedPort"]]
seen["in use"] = refused(secret.remove)
seen["scaled"] = service.scale(3)
until("three running tasks", lambda: running(3))


def fresh(work):
    """An update that is under way changes the version as well."""
    def attempt():
        service.reload()
        try:
            return [work()]
        except docker.errors.APIError as error:
            if "out of sequence" not in error.explanation:
                raise
            return None
    return until("a version that holds", attempt)[0]


seen["force"] = fresh(service.force_update)
seen["updated"] = fresh(lambda: service.update(
    labels={"team": "red"}, mode=types.ServiceMode("replicated", replicas=1)))
until("one running task", lambda: running(1))
seen["listed"] = [s.name for s in client.services.list(filters={"label": "team=red"})]
seen["logs"] = until("logs", lambda: b"".join(service.logs(stdout=True, stderr=True)) and True)
seen["missing"] = refused(lambda: client.services.get("nosuch"))
seen["stale"] = refused(lambda: low.update_service(
    service.id, 1, task_template={"ContainerSpec": {"Image": sys.argv[2]}}, name="py-web"))
task = until("a running task", lambda: [
    task for task in service.tasks(filters={"desired-state": "running"})
    if task["Status"]["State"] == "running"])[0]
seen["task"] = low.inspect_task(task["ID"])["Status"]["State"]
events = client.events(since=int(time.time()) - 600, until=int(time.time()) + 1,
                       filters={"type": "service"}, decode=True)
seen["events"] = sorted({event["Action"] for event in events})

container = client.containers.get(task["Status"]["ContainerStatus"]["ContainerID"])
seen["exec"] = container.exec_run(["echo", "hello"]).output.decode()
sock = container.exec_run(["cat"], stdin=True, socket=True, tty=True).output
sock._sock.sendall(b"typed\n")
seen["typed"] = "typed" in sock._sock.recv(100).decode()
sock.close()
bundle = io.BytesIO()
with tarfile.open(fileobj=bundle, mode="w") as tar:
    info = tarfile.TarInfo("file")
    info.size = 3
    tar.addfile(info, io.BytesIO(b"abc"))
seen["archive"] = container.put_archive("/tmp", bundle.getvalue())

service.remove()
until("the network is free", lambda: refused(network.remove) is None)
until("the secret is free", lambda: refused(secret.remove) is None)
config.remove()
seen["left"] = [len(client.services.list()), len(client.secrets.list()), len(client.configs.list())]
print(json.dumps(seen))
