#!/usr/bin/python

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: criu_info
short_description: Tell whether a host has a CRIU that works on its kernel
version_added: 0.1.0
description:
  - Finds the CRIU that M(stasis.lxc.lxc_checkpoint) would use, and asks it for its version, for C(criu check) and for the
    features that it and the kernel have.
  - A host without CRIU, or with one that does not work, is no failure; RV(usable) and RV(reasons) say so.
  - No LXC container is touched. To be sure that dumping works, the role P(stasis.lxc.criu#role) dumps and restores a process.
author:
  - The stasis.lxc authors (@stasis-lxc)
extends_documentation_fragment:
  - stasis.lxc.attributes
  - stasis.lxc.attributes.info_module
options:
  criu_path:
    description:
      - The CRIU to look at, an absolute path.
      - It must be an executable that only root can write, like every directory above it, since it is run as root.
      - By default it is the one that the role P(stasis.lxc.criu#role) installed. A C(criu) that only happens to be on C(PATH)
        is never taken.
    type: str
  features:
    description:
      - Names of the features to check, for instance V(mem_dirty_track) or V(uffd-noncoop). C(criu --help) lists them.
      - By default all that this CRIU knows; an empty list checks none, which is fastest.
    type: list
    elements: str
notes:
  - CRIU itself keeps what it found out about the kernel in C(/run/criu.kdat).
seealso:
  - module: stasis.lxc.lxc_checkpoint
"""

EXAMPLES = r"""
- name: Look at the CRIU that the role installed
  stasis.lxc.criu_info:
  register: criu

- name: Stop here if it does not work
  ansible.builtin.assert:
    that: criu.usable
    fail_msg: "{{ criu.reasons | join(' ') }}"

- name: Find out whether memory can be copied while the container runs
  stasis.lxc.criu_info:
    features: [mem_dirty_track]
  register: criu

- name: Look at another CRIU
  stasis.lxc.criu_info:
    criu_path: /opt/criu-4.2/sbin/criu
    features: []
"""

RETURN = r"""
path:
  description: The CRIU that was looked at. Empty if there is none.
  returned: success
  type: str
  sample: /opt/criu-4.2/sbin/criu
version:
  description: Its version. Empty if it does not run.
  returned: success
  type: str
  sample: "4.2"
git_id:
  description: What Git called the source it was built from. Empty for a build from a release.
  returned: success
  type: str
  sample: v4.2
kernel:
  description: Release of the running kernel.
  returned: success
  type: str
  sample: 6.12.48+deb13-amd64
architecture:
  description: Machine type of the kernel.
  returned: success
  type: str
  sample: x86_64
lxc_version:
  description: Version of C(lxc-checkpoint). Empty if there is none.
  returned: success
  type: str
  sample: 6.0.4
minimum_version:
  description: The oldest CRIU that can work on this kernel.
  returned: success
  type: str
  sample: "3.16"
check:
  description: Whether C(criu check) is content.
  returned: success
  type: bool
check_output:
  description: What C(criu check) says.
  returned: success
  type: str
  sample: Looks good.
features:
  description: For each feature that was checked, whether CRIU and the kernel have it.
  returned: success
  type: dict
  sample:
    mem_dirty_track: false
    uffd-noncoop: true
usable:
  description: Whether this CRIU can be used on this host, as far as C(criu check) can tell.
  returned: success
  type: bool
reasons:
  description: Why it cannot be used. Empty if RV(usable=true).
  returned: success
  type: list
  elements: str
  sample:
    - CRIU 3.17.1 does not work on kernel 6.18.1, which needs 4.2 or newer.
installed_by:
  description:
    - How the role installed the CRIU at RV(path), V(package), V(source) or V(archive). Empty if it did not.
  returned: success
  type: str
  sample: source
install_record:
  description: What the role wrote down about this host. V(null) if it was not applied, or the record cannot be trusted.
  returned: success
  type: dict
  contains:
    format:
      description: Format of the record.
      type: int
    protocol:
      description: Protocol between modules, hook and launcher.
      type: int
    collection_version:
      description: Version of the collection whose role was applied.
      type: str
    criu_path:
      description: The CRIU that was installed.
      type: str
    criu_version:
      description: Its version then.
      type: str
    criu_install_method:
      description: V(package), V(source) or V(archive).
      type: str
    hook:
      description: The action script that CRIU runs.
      type: str
    hook_sha256:
      description: Its SHA-256.
      type: str
    launcher:
      description: What liblxc runs as C(criu) at a restore.
      type: str
    launcher_sha256:
      description: Its SHA-256.
      type: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stasis.lxc.plugins.module_utils import _answer, _criu_info, _errors, _runner


def main() -> None:
    """Hand the parameters over, and the result back."""
    module = AnsibleModule(
        argument_spec={
            "criu_path": {"type": "str"},
            "features": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    try:
        info = _criu_info.gather(_runner.SystemRunner(), module.params["criu_path"], module.params["features"])
    except _errors.StasisError as exc:
        _answer.refuse(module, exc)
    result = asdict(info)
    warnings = result.pop("warnings")
    _answer.give(module, {"changed": False, **result}, warnings, texts=("check_output",))


if __name__ == "__main__":
    main()
