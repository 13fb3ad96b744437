# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later

.POSIX:
.SUFFIXES:
.PHONY: help demo demo-clean test test-all lint unit role integration faults kinds bench hosts hosts-down hosts-test clean

help:
	@echo 'stasis.lxc: checkpoint and restore running LXC containers with Ansible'
	@echo
	@echo 'Two commands, as root on Debian 12 or 13; both install what they need:'
	@echo '  make demo         checkpoint a running container to disk, restore it, show that it went on'
	@echo '  make test         lint, unit, role, integration, kinds, faults, two at a time, and a summary'
	@echo
	@echo 'More:'
	@echo '  make test-all     the same with every fault, and with emulated Debian hosts; PYTHONS=all: units whole on all'
	@echo '  make demo-clean   remove what an interrupted demo left behind'
	@echo '  make lint         every check that runs no container (tools/lint NAME: one of them)'
	@echo '  make unit         the unit tests, newest and oldest ansible-core and Python (PYTHONS=all: every Python)'
	@echo '  make role         the roles by Molecule: check, converge, idempotence, verify, removal'
	@echo '  make integration  real containers, real CRIU'
	@echo '  make faults       kill every part at every step, and look what came of it'
	@echo '  make kinds        one container of each kind through the module, and what came of it'
	@echo '  make hosts        boot a Debian 12 and a Debian 13 machine under QEMU (make hosts-down: switch them off)'
	@echo '  make hosts-test   on both, by Molecule over ssh: the role, three generations, the reboot of a host'
	@echo '  make bench        time frozen and total time beside lxc-checkpoint, as table, PNG, JSON'
	@echo '  make clean        remove .work, where all of the above keep their files'

demo:
	@tools/bootstrap demo
	@tools/demo

demo-clean:
	@tools/demo clean

test:
	@tools/test

test-all:
	@tools/test --all

lint:
	@tools/lint

unit:
	@tools/unit

role:
	@tools/role

integration:
	@tools/bootstrap test
	@tests/integration/run

faults:
	@tools/bootstrap test
	@tests/faults/run

kinds:
	@tools/bootstrap test
	@tests/kinds/run

hosts:
	@tools/bootstrap test
	@tests/hosts/hosts up

hosts-down:
	@tests/hosts/hosts down

hosts-test:
	@tests/hosts/run

bench:
	@tools/bootstrap test
	@tools/bench

clean:
	rm -rf .work .ansible collections tests/output
