# make          build lmxd into .venv
# make demo     see it work: a real model, leased, asked, released
# make test     every check and every test
# make check    linters and types: seconds
# make unit     the tests that start no process: half a minute
# make fuzz     the random tests, with other examples at every run, and many of them: for the night
# make engines  other engines themselves, installed beside lmxd: gigabytes, and minutes
# make soak     10,000 instances, 100 rounds of 200 rivals, 100 histories of crashes
# make deb      a package for this Debian or Ubuntu, in build/
# make dist     the sdist and the wheel, in dist/
# make install  as root: /opt/lmxd, /usr/local/bin, the systemd unit, /etc/lmxd/config.yaml (never overwritten)

PREFIX ?= /usr/local
DESTDIR ?=
LIBDIR ?= /opt/lmxd
UNITDIR ?= /usr/lib/systemd/system
USERUNITDIR ?= /usr/lib/systemd/user
SYSUSERSDIR ?= /usr/lib/sysusers.d
TMPFILESDIR ?= /usr/lib/tmpfiles.d
ETCDIR ?= /etc/lmxd
RUN ?= /run
VENV ?= .venv
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
EXTRAS ?= engine,hub
PEERS ?= peers
ENGINES ?= build/engines
UNIT = $(addprefix tests/,core gguf estimate config store devices instances test_architecture.py)

FLEETUNITS = lmxd-fleet-broker.service lmxd-fleet-node.service lmxd-fleet-gateway.service
USERUNITS = lmxd.service lmxd.socket lmxd-gateway.service $(FLEETUNITS)
UNITS = lmxd.service lmxd.socket lmxd-stop-all.service lmxd-gateway.service $(FLEETUNITS)
MANDIR = $(PREFIX)/share/man
SHAREDIR = $(PREFIX)/share/lmxd
DOCDIR = $(PREFIX)/share/doc/lmxd
# Where each shell looks, without being told, on Debian: by packages under /usr, by hand under /usr/local. Fish reads nothing
# under /usr/local unless XDG_DATA_DIRS names it.
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
FISHDIR = $(if $(filter /usr,$(PREFIX)),$(PREFIX)/share/fish/vendor_completions.d,/etc/fish/completions)
PROGRAMS = lmxd lmxctl
# Where a package has its files, too.
SHARED = $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) $(addprefix $(DESTDIR)$(USERUNITDIR)/,$(USERUNITS)) \
    $(DESTDIR)$(SYSUSERSDIR)/lmxd.conf $(DESTDIR)$(TMPFILESDIR)/lmxd.conf

all:
	EDITABLE=1 contrib/prepare.sh $(VENV)

demo:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,model
	@contrib/demo.sh $(VENV)

test:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test,model
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

check:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

unit:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test,model
	@$(VENV)/bin/python -m pytest -n $(WORKERS) -k "not crowd and not Histories and not bound_of_a_wait" $(UNIT) $(PYTEST_ARGS)

fuzz:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test,model
	@LMXD_EXAMPLES=$${LMXD_EXAMPLES:-20000} $(VENV)/bin/python -m pytest -n $(WORKERS) --timeout 0 -m hypothesis $(PYTEST_ARGS)

engines:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test,model
	@contrib/other_engines.sh $(ENGINES)
	@LMXD_ENGINES=$(ENGINES) $(VENV)/bin/python -m pytest tests/programs $(PYTEST_ARGS)

soak:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test,model
	@LMXD_ROUNDS=100 LMXD_CYCLES=10000 $(VENV)/bin/python -m pytest -s --timeout 0 tests/daemon/test_load.py
	@LMXD_SEEDS=$${LMXD_SEEDS:-100} $(VENV)/bin/python -m pytest -n $(WORKERS) --timeout 0 tests/end_to_end/test_crashes.py

bench:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test,model
	@$(VENV)/bin/python bench/admission.py
	@$(VENV)/bin/python bench/simulate.py --quick
	@$(VENV)/bin/python bench/arena.py --host --peers "$(PEERS)"
	@$(VENV)/bin/python bench/storm.py --device host
	@$(VENV)/bin/python bench/suspend.py
	@$(VENV)/bin/python bench/read_ahead.py
	@$(VENV)/bin/python bench/shared_pages.py
	@$(VENV)/bin/python bench/rpc_round_trips.py
	@$(VENV)/bin/python bench/gateway_overhead.py
	@$(VENV)/bin/python bench/estimator.py speed
	@$(VENV)/bin/python bench/estimator.py recorded
	@$(VENV)/bin/python bench/estimator.py cpu
	@$(VENV)/bin/python bench/estimator.py builds

# Everything that it makes is to be read by all, whatever the umask.
install:
	@test -n "$(DESTDIR)" || ! contrib/packaged.sh || { \
	    echo "lmxd is installed as a package, which would no longer be whole: upgrade it (docs/upgrade.md), or first: apt remove lmxd" >&2; \
	    exit 1; }
	@umask 022 && $(MAKE) --no-print-directory install-files
	@test -n "$(DESTDIR)" || contrib/systemd/activate.sh

install-files:
	contrib/give_back.sh
	PYTHON="$${PYTHON:-/usr/bin/python3}" contrib/prepare.sh $(DESTDIR)$(LIBDIR) $(EXTRAS)
	contrib/relocate.sh $(DESTDIR)$(LIBDIR) $(LIBDIR)
	install -d $(DESTDIR)$(PREFIX)/bin
	ln -sf $(LIBDIR)/bin/lmxd $(LIBDIR)/bin/lmxctl $(DESTDIR)$(PREFIX)/bin/
	install -D -m 644 -t $(DESTDIR)$(UNITDIR) $(addprefix contrib/systemd/,$(UNITS))
	sed -i 's|@BINDIR@|$(PREFIX)/bin|' $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	install -D -m 644 -t $(DESTDIR)$(USERUNITDIR) $(addprefix lmxd/setup/units/,$(USERUNITS))
	sed -i 's|@BINDIR@|$(PREFIX)/bin|' $(addprefix $(DESTDIR)$(USERUNITDIR)/,$(USERUNITS))
	install -D -m 644 contrib/systemd/lmxd.sysusers $(DESTDIR)$(SYSUSERSDIR)/lmxd.conf
	install -D -m 644 contrib/systemd/lmxd.tmpfiles $(DESTDIR)$(TMPFILESDIR)/lmxd.conf
	install -D -m 644 -t $(DESTDIR)$(MANDIR)/man1 contrib/man/lmxctl.1
	install -D -m 644 -t $(DESTDIR)$(MANDIR)/man5 contrib/man/lmxd.yaml.5
	install -D -m 644 -t $(DESTDIR)$(MANDIR)/man8 contrib/man/lmxd.8
	install -D -m 644 -t $(DESTDIR)$(SHAREDIR) contrib/config.schema.json contrib/grafana/lmxd.json contrib/prometheus/lmxd.rules.yml
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) LICENSE README.md SECURITY.md CHANGELOG.md docs/*.md
	install -d $(addprefix $(DESTDIR),$(BASHDIR) $(ZSHDIR) $(FISHDIR))
	for program in $(PROGRAMS); do \
	    complete() { $(DESTDIR)$(LIBDIR)/bin/python -I $(DESTDIR)$(LIBDIR)/bin/$$program completion $$1; }; \
	    complete bash >$(DESTDIR)$(BASHDIR)/$$program && complete zsh >$(DESTDIR)$(ZSHDIR)/_$$program && \
	    complete fish >$(DESTDIR)$(FISHDIR)/$$program.fish || exit 1; \
	done
	test -e $(DESTDIR)$(ETCDIR)/config.yaml || { \
	    install -D -m 644 etc/lmxd/config.yaml $(DESTDIR)$(ETCDIR)/config.yaml && \
	    sed -i '1s|/usr/local/share/lmxd|$(SHAREDIR)|' $(DESTDIR)$(ETCDIR)/config.yaml; }

deb:
	contrib/deb/build.sh

dist:
	@EDITABLE=1 contrib/prepare.sh $(VENV) engine,test
	@rm -rf dist && $(VENV)/bin/python -m build --outdir dist .

# What is a package's stays, where one was installed over it.
uninstall:
	test -n "$(DESTDIR)" || contrib/packaged.sh || contrib/systemd/deactivate.sh
	test -z "$(DESTDIR)" && contrib/packaged.sh || rm -f $(SHARED)
	test -n "$(DESTDIR)" || ! test -d $(RUN)/systemd/system || systemctl daemon-reload
	rm -rf $(DESTDIR)$(LIBDIR)
	rm -f $(DESTDIR)$(PREFIX)/bin/lmxd $(DESTDIR)$(PREFIX)/bin/lmxctl
	rm -f $(DESTDIR)$(MANDIR)/man1/lmxctl.1 $(DESTDIR)$(MANDIR)/man5/lmxd.yaml.5 $(DESTDIR)$(MANDIR)/man8/lmxd.8
	rm -rf $(DESTDIR)$(SHAREDIR) $(DESTDIR)$(DOCDIR)
	rm -f $(addprefix $(DESTDIR)$(BASHDIR)/,$(PROGRAMS)) $(addprefix $(DESTDIR)$(ZSHDIR)/_,$(PROGRAMS))
	rm -f $(PROGRAMS:%=$(DESTDIR)$(FISHDIR)/%.fish) $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/lmxctl.fish
	@test -n "$(DESTDIR)" || echo "left: $(ETCDIR), /var/lib/lmxd, /var/log/lmxd and the users and groups (docs/upgrade.md)"

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: all demo test check unit fuzz engines soak bench install install-files deb dist uninstall clean
