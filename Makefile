# A face over bootstrap.py, which also runs where there is no make.
PYTHON ?= python3
ARGS ?=

.PHONY: install tour test test-slow bench lint

install:
	@$(PYTHON) bootstrap.py install $(ARGS)

tour:
	@$(PYTHON) bootstrap.py tour $(ARGS)

test:
	@$(PYTHON) bootstrap.py test $(ARGS)

test-slow:
	@$(PYTHON) bootstrap.py test --slow $(ARGS)

bench:  # make bench ARGS=cli
	@$(PYTHON) bootstrap.py bench $(ARGS)

lint:
	@$(PYTHON) bootstrap.py lint
