"""Where a module is tested: in a file named after it, in its stage's folder, or as listed here."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILDER, TESTS = ROOT / "builder", Path(__file__).parent
# Modules that only make sense together with others are tested with these.
TESTED_BY = {
    "catalogue/layers.py": "test_overlay.py",
    "catalogue/load.py": "catalogue/test_catalogue.py",
    "cache.py": "test_caches.py",
    "debs/debian.py": "debs/test_successors.py",
    "debs/manifest.py": "payload/test_node_manifest.py",
    "debs/members.py": "debs/test_library.py",
    "debs/node.py": "debs/test_roles.py",
    "debs/pack.py": "debs/test_library.py",
    "debs/plain.py": "debs/test_roles.py",
    "debs/service/assembly.py": "debs/test_service_assemble.py",
    "debs/service/files.py": "debs/test_service_source.py",
    "debs/service/package.py": "debs/test_service_source.py",
    "debs/service/texts.py": "debs/test_service_source.py",
    "debs/service/view.py": "debs/test_service_source.py",
    "debs/stdeb_adapter.py": "debs/test_versions.py",
    "debs/tree.py": "debs/test_library.py",
    "dirs.py": "test_options.py",
    "fetch/files.py": "fetch/test_fetch.py",
    "given.py": "test_options.py",
    "model/values.py": "catalogue/test_catalogue.py",
    "payload/openstack_node/apt.py": "payload/test_node_plan.py",
    "payload/openstack_node/cli.py": "payload/test_node_status.py",
    "payload/openstack_node/databases.py": "payload/test_node_probe.py",
    "payload/openstack_node/debian.py": "payload/test_node_adopt.py",
    "payload/openstack_node/demands.py": "payload/test_node_gate.py",
    "payload/openstack_node/leftovers.py": "payload/test_node_adopt.py",
    "payload/openstack_node/plan_text.py": "payload/test_node_plan.py",
    "payload/openstack_node/status_text.py": "payload/test_node_status.py",
    "payload/openstack_node/system.py": "payload/test_node_status.py",
    "payload/smoke.py": "wheels/test_smoke.py",
    "pipeline/building.py": "pipeline/test_pipeline.py",
    "pipeline/checking.py": "test_overlay.py",
    "pipeline/comparing.py": "test_diff.py",
    "pipeline/locking.py": "resolve/test_lockcheck.py",
    "pipeline/planning.py": "pipeline/test_pipeline.py",
    "pipeline/publishing.py": "pipeline/test_pipeline.py",
    "pipeline/running.py": "pipeline/test_pipeline.py",
    "pipeline/values.py": "pipeline/test_pipeline.py",
    "pipeline/vouching.py": "fetch/test_tarballs.py",
    "publish/contents.py": "publish/test_publish.py",
    "publish/keys.py": "publish/test_publish_keys.py",
    "publish/layout.py": "publish/test_publish.py",
    "publish/locking.py": "publish/test_publish_crash.py",
    "publish/manage.py": "publish/test_publish_manage.py",
    "publish/pool.py": "publish/test_publish.py",
    "publish/repository.py": "publish/test_publish.py",
    "publish/signer.py": "publish/test_publish_keys.py",
    "publish/state.py": "publish/test_publish_types.py",
    "publish/write.py": "publish/test_publish.py",
    "reports.py": "test_options.py",
    "start.py": "test_processes.py",
    "templates.py": "debs/test_compile_modules.py",
    "wheels/build.py": "wheels/test_wheels.py",
}


def name_test(module):
    """Return the file that tests a module, relative to tests/unit."""
    folder = str(Path(module).parent).replace("payload/openstack_node", "payload").split("/")[0]
    prefix = "node_" if "openstack_node" in module else ""
    return TESTED_BY.get(module, f"{folder}/test_{prefix}{Path(module).stem}.py")


MODULES = sorted(
    str(p.relative_to(BUILDER)) for p in BUILDER.rglob("*.py") if not p.name.startswith("__")
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_file_that_tests_it(module):
    assert (TESTS / name_test(module)).is_file(), "write it, or list the file that tests it"


def test_the_list_has_no_module_that_is_gone_or_has_a_file_of_its_own():
    assert not TESTED_BY.keys() - set(MODULES)
    own = {m for m in TESTED_BY if (TESTS / Path(m).with_name(f"test_{Path(m).name}")).is_file()}
    assert not own
