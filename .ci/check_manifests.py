"""Checks that the parts of deploy/ agree with each other, which no schema can tell.

    check_manifests.py DEPLOY_DIR [RENDERED.yaml ...]

Reads the Kustomize folders below DEPLOY_DIR as they stand and, where given, what Kustomize made of them. Prints every
disagreement and ends with 1 if there is one.
"""

import collections
import pathlib
import re
import sys
import tomllib

import yaml

SERVICES = {"startupProbe": "startup", "livenessProbe": "liveness", "readinessProbe": "readiness"}
KINDS = ("Namespace", "ServiceAccount", "ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy")
SHUTDOWN_DEADLINE_S = 60

problems = []


def expect(condition, where, message):
    """Notes `message` when `condition` does not hold."""
    if not condition:
        problems.append(f"{where}: {message}")


def read(path):
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def read_env(path):
    """The variables of an env file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def read_kustomization(folder):
    """The documents of a folder without references to others, with its generated ConfigMaps."""
    kustomization = read(folder / "kustomization.yaml")[0]
    generators = kustomization.get("configMapGenerator", [])
    env_files = [name for generator in generators for name in generator.get("envs", [])]
    resources = kustomization.get("resources", [])
    patches = [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]

    named = {"kustomization.yaml", *resources, *patches, *env_files}
    for name in sorted(named):
        expect((folder / name).exists(), folder, f"{name} is named but does not exist")
    for path in sorted(folder.iterdir()):
        expect(path.name in named, folder, f"{path.name} is named by nothing")

    documents = [document for name in resources if (folder / name).is_file() for document in read(folder / name)]
    for generator in generators:
        data = {k: v for name in generator.get("envs", []) for k, v in read_env(folder / name).items()}
        metadata = {"name": generator["name"], "namespace": generator.get("namespace")}
        documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return documents, [(name, read(folder / name)[0]) for name in patches if (folder / name).is_file()]


def key(document):
    return document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"]


def selects(selector, labels):
    """Whether a selector of labels is set and matches."""
    return bool(selector) and selector.items() <= labels.items()


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def check_set(where, documents, dockerfile):
    """Checks one whole set of manifests."""
    by_kind = collections.defaultdict(list)
    for document in documents:
        by_kind[document["kind"]].append(document)
    keys = [key(document) for document in documents]
    expect(len(keys) == len(set(keys)), where, "a resource occurs twice")
    for kind in KINDS:
        expect(by_kind[kind], where, f"there is no {kind}")
    if not by_kind["StatefulSet"]:
        return

    stateful = by_kind["StatefulSet"][0]
    template = stateful["spec"]["template"]
    labels = template["metadata"]["labels"]
    pod = template["spec"]
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    namespaces = {document["metadata"]["name"] for document in by_kind["Namespace"]}
    for kind, namespace, name in keys:
        expect(kind == "Namespace" or namespace in namespaces, where, f"{kind} {name}: namespace is {namespace}")

    check_selectors(where, by_kind, stateful, labels)
    check_ports(where, by_kind, template, ports)
    check_pod(where, by_kind, pod)
    check_volumes(where, stateful, pod, container)
    settings = check_settings(where, by_kind, pod, container, ports)
    check_image(where, pod, container, ports, settings, dockerfile)


def check_selectors(where, by_kind, stateful, labels):
    expect(selects(stateful["spec"]["selector"]["matchLabels"], labels), where, "StatefulSet does not select its pods")
    for service in by_kind["Service"]:
        name = service["metadata"]["name"]
        expect(selects(service["spec"]["selector"], labels), where, f"Service {name} does not select the pods")
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for document in by_kind[kind]:
            expect(selects(document["spec"][field]["matchLabels"], labels), where, f"{kind} does not select the pods")

    governing = [s for s in by_kind["Service"] if s["metadata"]["name"] == stateful["spec"]["serviceName"]]
    expect(len(governing) == 1, where, "the StatefulSet's serviceName names no Service")
    for service in governing:
        expect(service["spec"].get("clusterIP") == "None", where, "the StatefulSet's service is not headless")
        expect(service["spec"].get("publishNotReadyAddresses"), where, "the headless service hides pods that are not ready")


def check_ports(where, by_kind, template, ports):
    known = {*ports, *ports.values()}
    for service in by_kind["Service"]:
        for port in service["spec"]["ports"]:
            expect(port["targetPort"] in known, where, f"Service port {port['name']} has no container port")
            expect(port["port"] == ports.get(port["name"]), where, f"Service port {port['name']} has another number")
    for policy in by_kind["NetworkPolicy"]:
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        expect(opened <= known, where, f"NetworkPolicy opens {opened - known}")
        expect(opened == set(ports) or opened == set(ports.values()), where, "NetworkPolicy does not open every port")

    annotations = template["metadata"]["annotations"]
    expect(annotations["prometheus.io/port"] == str(ports["ops"]), where, "Prometheus does not scrape the ops port")
    for probe, service in SERVICES.items():
        grpc = template["spec"]["containers"][0].get(probe, {}).get("grpc", {})
        expect(grpc.get("port") == ports["ops"], where, f"{probe} is not on the ops port")
        expect(grpc.get("service") == service, where, f"{probe} does not ask for {service}")


def check_pod(where, by_kind, pod):
    accounts = {account["metadata"]["name"] for account in by_kind["ServiceAccount"]}
    expect(pod["serviceAccountName"] in accounts, where, "serviceAccountName names no ServiceAccount")
    expect(pod.get("enableServiceLinks") is False, where, "service links would add HANGAR_ variables of Kubernetes' own")
    grace = pod.get("terminationGracePeriodSeconds", 30)
    pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    expect(pause > 0, where, "nothing lets proxies hear of the end before connections are refused")
    needed = pause + SHUTDOWN_DEADLINE_S
    expect(grace > needed, where, f"a grace of {grace} s is not above the pause and Hangar's deadline, {needed} s")


def check_volumes(where, stateful, pod, container):
    claims = [claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]]
    volumes = [volume["name"] for volume in pod["volumes"]] + claims
    mounts = [mount["name"] for mount in container["volumeMounts"]]
    expect(sorted(volumes) == sorted(mounts), where, f"volumes {sorted(volumes)} and mounts {sorted(mounts)} differ")


def check_settings(where, by_kind, pod, container, ports):
    settings = {}
    for source in container["envFrom"]:
        name = source["configMapRef"]["name"]
        found = [config for config in by_kind["ConfigMap"] if config["metadata"]["name"] == name]
        expect(len(found) == 1, where, f"ConfigMap {name} does not exist")
        for config in found:
            settings |= config["data"]
    expect(port_of(settings["HANGAR_LISTEN"]) == ports["grpc"], where, "HANGAR_LISTEN is not the grpc port")
    expect(port_of(settings["HANGAR_OPS_LISTEN"]) == ports["ops"], where, "HANGAR_OPS_LISTEN is not the ops port")

    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    # The root of a writable volume belongs to root, and Hangar wants directories of its own.
    for name in ("HANGAR_DATA_DIR", "HANGAR_RUNTIME_DIR"):
        parent = str(pathlib.PurePosixPath(settings[name]).parent)
        expect(mounts.get(parent) is False, where, f"{name} is not right below a writable mount")
    expect(mounts.get(settings["HANGAR_MODEL_ROOT"]) is True, where, "HANGAR_MODEL_ROOT is not a read-only mount")
    return settings


def check_image(where, pod, container, ports, settings, dockerfile):
    """The manifests say again what the image says."""
    user = re.search(r"^USER (\d+):(\d+)$", dockerfile, re.M)
    security = pod["securityContext"]
    ids = [str(security[name]) for name in ("runAsUser", "runAsGroup", "fsGroup")]
    expect(ids == [user[1], user[2], user[2]], where, f"users {ids} are not the image's {user[0]}")

    exposed = {int(port) for port in re.search(r"^EXPOSE (.+)$", dockerfile, re.M)[1].split()}
    expect(exposed == set(ports.values()), where, f"the image exposes {exposed}")
    volume = re.search(r"^VOLUME (.+)$", dockerfile, re.M)[1]
    expect(settings["HANGAR_DATA_DIR"].startswith(f"{volume}/"), where, f"the image's volume is {volume}")
    instruction = re.search(r"^ENV (.+\\\n)*.+$", dockerfile, re.M)[0]
    image_env = dict(re.findall(r"\b(HANGAR_\w+)=(\S+)", instruction))
    expect(len(image_env) >= 5, where, "the image's ENV was not understood")
    for name, value in image_env.items():
        expect(settings.get(name) == value, where, f"{name} is {settings.get(name)}, in the image {value}")
    expect(container.get("args", ["serve"]) == ["serve"], where, "the container does not run `hangar serve`")


def check_twin(dockerfile, twin):
    """The image for GPUs is that for CPUs in what the manifests rely on."""
    for line in (r"^USER .+$", r"^VOLUME .+$", r"^EXPOSE .+$", r"^STOPSIGNAL .+$", r"^ENTRYPOINT .+$", r"^ARG VERSION=.+$"):
        found = [re.search(line, text, re.M) for text in (dockerfile, twin)]
        expect(found[0] and found[1] and found[0][0] == found[1][0], "cuda/Dockerfile", f"{line} is not as in Dockerfile")
    variables = [dict(re.findall(r"\b(HANGAR_\w+)=([^\s$]+)", text)) for text in (dockerfile, twin)]
    expect(variables[0] == variables[1], "cuda/Dockerfile", f"it sets {variables[1]}, Dockerfile {variables[0]}")


def check_versions(deploy, base, dockerfile):
    """The image's tag is the version of the workspace."""
    version = tomllib.loads((deploy.parent / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    stateful = next(document for document in base if document["kind"] == "StatefulSet")
    image = stateful["spec"]["template"]["spec"]["containers"][0]["image"]
    expect(image == f"hangar:{version}", "base", f"image {image} is not of version {version}")
    expect(f"ARG VERSION={version}\n" in dockerfile, "Dockerfile", f"VERSION is not {version}")


def check_variables(source, settings_files):
    """The server reads each variable that is set."""
    known = {name for path in source.rglob("*.rs") for name in re.findall(r'env = "(\w+)"', path.read_text())}
    for path in settings_files:
        for name in sorted(read_env(path).keys() - known):
            expect(False, path, f"{name} is a variable that the server does not read")


def main(deploy, rendered):
    dockerfile = (deploy / "Dockerfile").read_text()
    base, _ = read_kustomization(deploy / "base")
    check_set("base", base, dockerfile)
    check_versions(deploy, base, dockerfile)
    check_twin(dockerfile, (deploy / "cuda" / "Dockerfile").read_text())
    check_variables(deploy.parent / "server" / "src", sorted(deploy.rglob("*.env")))

    overlays = sorted(path for path in (deploy / "overlays").iterdir())
    for overlay in overlays:
        documents, patches = read_kustomization(overlay)
        known = {key(document) for document in [*base, *documents]}
        for name, patch in patches:
            expect(key(patch) in known, overlay, f"{name} patches {key(patch)}, which is not there")

    for path in rendered:
        check_set(path.name, read(path), dockerfile)

    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"deploy/: base, {len(overlays)} overlay(s), {len(rendered)} rendered: {len(problems)} disagreement(s)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), [pathlib.Path(name) for name in sys.argv[2:]]))
