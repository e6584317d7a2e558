# SPDX-License-Identifier: MIT
#
# `make help` says what there is to make. Everything made lies in build/.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

CC := gcc
LD := ld
PYTHON := python3
BUDGET := 8000

# What `make run` starts.
CPUS ?= 1
MEMORY ?= 2G
VARIANTS := debug release counting

warnings := -Wall -Wextra -Winit-self -Werror
common := -std=c11 -O2 -g -ffreestanding -fno-stack-protector -fcf-protection=none \
          -fno-asynchronous-unwind-tables -fno-strict-aliasing -MMD -MP $(warnings)
kernel_flags := $(common) -O3 -mno-red-zone -mgeneral-regs-only -fpie \
                -Ikernel/x86 -Ikernel/core -Ibuild/gen
user_flags := $(common) -fno-pie -ffunction-sections -fdata-sections -Iabi -Ilib/exo -Ibuild/gen
user_link := -static -nostdlib -no-pie --gc-sections -z max-page-size=4096 -z separate-code \
             -z noexecstack -Ttext-segment=0x400000 -e _start

flags_debug := -DEXO_DEBUG
flags_release :=
flags_counting := -DEXO_COUNTING

generated := $(addprefix build/gen/,exo_calls.h exo_errors.h exo_stubs.h call_table.h \
               call_names.h call_grammar.h lx_calls.h)
linux_calls := build/gen/lx_calls.h

.PHONY: all run demo test test-long bench iso proof fuzz check size format clean help
.DELETE_ON_ERROR:
.SECONDARY:

all: $(VARIANTS:%=build/%/kernel.elf) images build/user/linux-library size

help:
	@echo 'exovisor: an exokernel for x86-64'
	@echo
	@echo '  make            both kernels, all programs, and the size of the kernel'
	@echo '  make run        installs what is missing, boots it in QEMU: a Linux shell, and a Debian guest'
	@echo '                  (CPUS=n MEMORY=size; GUEST=kernel,ramdisk,command line; GUESTS=n;'
	@echo '                  GUEST_MEMORY=MiB GUEST_CPUS=n DISK=file: docs/guide.md)'
	@echo '  make demo       the same without a guest: two pagers and a console'
	@echo '  make test       all tests (a few minutes)'
	@echo '  make test-long  the same with more machines, long fuzzing, and the proof'
	@echo '  make bench      measures in executed instructions'
	@echo '  make iso        build/exovisor.iso, for BIOS and UEFI: what make run starts, with the same settings'
	@echo '  make proof      proves the core with Frama-C'
	@echo '  make fuzz       fuzzes the core on this machine'
	@echo '  make check      formatting, static analysis, size'
	@echo '  make clean      removes build/'
	@echo
	@echo 'Each installs what it lacks, by name from Debian, and says so first.'

# ---- generated headers ------------------------------------------------------------

$(linux_calls): libos/linux/calls.list tools/linux_calls.py
	@mkdir -p build/gen
	$(PYTHON) tools/linux_calls.py $< $@

$(filter-out $(linux_calls),$(generated)) &: abi/calls.list abi/exo.h tools/calls.py
	@mkdir -p build/gen docs
	$(PYTHON) tools/calls.py abi/calls.list build/gen docs/reference.md

# ---- kernels: build/VARIANT/kernel.elf -----------------------------------------------

core_c := $(wildcard kernel/core/*.c)
x86_c := $(filter-out kernel/x86/offsets.c,$(wildcard kernel/x86/*.c))
x86_s := $(wildcard kernel/x86/*.S)
offsets := $(wildcard kernel/x86/offsets.c)

define kernel_rules
c_$(1) := $$(patsubst %.c,build/$(1)/%.o,$(core_c) $(x86_c))
objects_$(1) := build/$(1)/kernel.o $$(patsubst %.S,build/$(1)/%.o,$(x86_s))

# All C as one piece: calls from file to file are inlined as those within one.
$$(c_$(1)): lto := -flto
build/$(1)/kernel.o: $$(c_$(1))
	@$(CC) $(filter-out -MMD -MP,$(kernel_flags)) -flto -flto-partition=one \
	  -flinker-output=nolto-rel -r -nostdlib -o $$@ $$^

build/$(1)/%.o: %.c | $(generated)
	@mkdir -p $$(@D)
	@echo '  CC $(1) $$<'
	@$(CC) $(kernel_flags) $(flags_$(1)) $$(lto) -c -o $$@ $$<

build/$(1)/%.o: %.S build/$(1)/gen/offsets.h | $(generated)
	@mkdir -p $$(@D)
	@echo '  AS $(1) $$<'
	@$(CC) $(kernel_flags) $(flags_$(1)) -Ibuild/$(1)/gen -c -o $$@ $$<

# Constants of the C structures for the assembler: lines "->NAME value".
build/$(1)/gen/offsets.s: $(offsets) | $(generated)
	@mkdir -p $$(@D)
	@$(if $(offsets),$(CC) $(kernel_flags) $(flags_$(1)) -S -o $$@ $$<,touch $$@)

build/$(1)/gen/offsets.h: build/$(1)/gen/offsets.s
	@sed -n 's/^[[:space:]]*->\([A-Za-z0-9_]*\)[[:space:]]*[$$$$]*\(-*[0-9]*\).*/#define \1 \2/p' \
	  $$< > $$@

build/$(1)/kernel.elf: kernel/x86/kernel.ld $$(objects_$(1))
	@echo '  LD $$@'
	@$(LD) -static -nostdlib -no-pie -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments --build-id=none \
	  -T kernel/x86/kernel.ld -o $$@ $$(objects_$(1))

-include $$(objects_$(1):.o=.d) $$(c_$(1):.o=.d) $(if $(offsets),build/$(1)/gen/offsets.d)
endef
$(foreach v,$(VARIANTS),$(eval $(call kernel_rules,$(v))))

# ---- programs: build/user/DIRECTORY/NAME.elf --------------------------------------------

sources = $(wildcard $(1)/*.c $(1)/*.S)
objects = $(patsubst %,build/user/%.o,$(basename $(call sources,$(1))))
program_dirs = $(patsubst %/,%,$(dir $(wildcard $(1)/*/*.c)))
lib := $(call objects,lib/exo)
apps := $(sort $(call program_dirs,apps))
boot_tests := $(sort $(call program_dirs,tests/boot))
vm_tests := $(sort $(call program_dirs,tests/vmboot))
fuzz_boot := $(sort $(call program_dirs,tests/fuzzboot))
console_boot := $(sort $(call program_dirs,tests/consoleboot))
manage_boot := $(sort $(call program_dirs,tests/manage))
paths := $(sort $(call program_dirs,tests/pathboot))
benches := bench/primitives
monitor := $(patsubst %/main.c,%,$(wildcard vmm/main.c))
linuxd := $(patsubst %/main.c,%,$(wildcard libos/linux/server/main.c))
linuxd_parts := $(sort $(call program_dirs,$(linuxd)))
programs := root $(monitor) $(linuxd) $(apps) $(boot_tests) $(vm_tests) $(fuzz_boot) $(console_boot) $(manage_boot) $(paths) $(benches)

# Their use of FPU registers would make each exit or upcall switch them.
build/user/lib/exo/%.o: user_extra := -mgeneral-regs-only
build/user/vmm/%.o: user_extra := -mgeneral-regs-only
build/user/libos/linux/server/%.o: user_extra := -mgeneral-regs-only
build/user/libos/linux/library/%.o: user_extra := -mgeneral-regs-only -mno-red-zone -fpie

build/user/%.o: %.c | $(generated)
	@mkdir -p $(@D)
	@echo '  CC $<'
	@$(CC) $(user_flags) $(user_extra) -c -o $@ $<

build/user/%.o: %.S | $(generated)
	@mkdir -p $(@D)
	@echo '  AS $<'
	@$(CC) $(user_flags) -c -o $@ $<

define program_rule
build/user/$(1).elf: $(call objects,$(1)) $(lib)
	@mkdir -p $$(@D)
	@echo '  LD $$@'
	@$(LD) $(user_link) -o $$@ $$^
endef
$(foreach p,$(programs),$(eval $(call program_rule,$(p))))
runner := $(call objects,tests/runner)
guests := $(call objects,tests/guests)
$(patsubst %,build/user/%.elf,$(boot_tests) $(vm_tests)): $(runner)
$(vm_tests:%=build/user/%.elf): $(guests)
build/user/apps/vmd.elf: build/user/vmm/config.o build/user/vmm/reason.o
build/user/bench/primitives.elf: build/user/tests/vmboot/vmtests/monitor.o
$(linuxd:%=build/user/%.elf): $(foreach d,$(linuxd_parts),$(call objects,$(d)))
-include $(patsubst %.o,%.d,$(lib) $(runner) $(guests) $(foreach p,$(programs) $(linuxd_parts),$(call objects,$(p))))

# ---- the Linux library: a flat image that linuxd finds in the boot archive ---------------------

linux_library := $(call objects,libos/linux/library) \
  $(patsubst %,build/user/libos/linux/library/exo-%.o,string format)
build/user/libos/linux/library/exo-%.o: lib/exo/%.c | $(generated)
	@mkdir -p $(@D)
	@$(CC) $(user_flags) $(user_extra) -c -o $@ $<
-include $(linux_library:.o=.d)
build/user/linux-library.elf: libos/linux/library/library.ld $(linux_library)
	@echo '  LD $@'
	@$(LD) -static -nostdlib -no-pie --gc-sections --build-id=none --no-warn-rwx-segments -z noexecstack \
	  -T $< -o $@ $(linux_library)

build/user/linux-library: build/user/linux-library.elf
	@objcopy -O binary $< $@

# ---- our own programs for its root file system: build/linux/bin ------------------------------------

linux_programs := $(patsubst apps/linux/%/main.c,build/linux/bin/%,$(wildcard apps/linux/*/main.c))
linux_common := $(wildcard apps/linux/common/*.[ch])
linux_compile = musl-gcc -static -std=gnu11 -Os -s $(warnings) -o $@ $(filter %.c,$^)
# libext2fs (package libext2fs-dev) is built for glibc.
build/linux/bin/extfs: linux_compile = $(CC) -static -std=gnu11 -Os -s $(warnings) -o $@ \
  $(filter-out apps/linux/common/%,$(filter %.c,$^)) -lext2fs -lcom_err -lpthread
define linux_program_rule
$(1): $(wildcard apps/linux/$(notdir $(1))/*.[ch]) $(linux_common)
	@mkdir -p $$(@D)
	@echo '  CC $$@'
	@$$(linux_compile)
endef
$(foreach p,$(linux_programs),$(eval $(call linux_program_rule,$(p))))

# ---- boot archives: root, config and programs, a cpio each ---------------------------------

build/user/root.image: build/user/root.elf tools/image.py
	@$(PYTHON) tools/image.py $< $@

# archive NAME, CONFIG, PROGRAM DIRECTORIES
define archive_rule
build/$(1).cpio: $(2) build/user/root.image $(3:%=build/user/%.elf) tools/archive.sh
	tools/archive.sh $$@ root=build/user/root.image config=$(2) \
	  $(foreach p,$(3),$(notdir $(p))=build/user/$(p).elf)
endef
images :=
ifneq ($(wildcard root/config),)
$(eval $(call archive_rule,run,root/config,$(apps)))
images += build/run.cpio
endif
ifneq ($(wildcard tests/boot/config),)
$(eval $(call archive_rule,test,tests/boot/config,$(boot_tests) apps/switch))
images += build/test.cpio
endif
ifneq ($(wildcard tests/vmboot/config),)
$(eval $(call archive_rule,vmtest,tests/vmboot/config,$(vm_tests)))
images += build/vmtest.cpio
endif
ifneq ($(wildcard tests/fuzzboot/config),)
$(eval $(call archive_rule,fuzz,tests/fuzzboot/config,$(fuzz_boot)))
images += build/fuzz.cpio
endif
ifneq ($(wildcard tests/consoleboot/config),)
$(eval $(call archive_rule,console,tests/consoleboot/config,$(apps) $(console_boot)))
images += build/console.cpio
endif
ifneq ($(wildcard tests/pathboot/config),)
$(eval $(call archive_rule,paths,tests/pathboot/config,$(paths)))
images += build/paths.cpio
endif
ifneq ($(wildcard bench/config),)
$(eval $(call archive_rule,bench,bench/config,$(benches)))
images += build/bench.cpio
endif

.PHONY: images
images: $(images) $(programs:%=build/user/%.elf)

build/test.iso: build/debug/kernel.elf build/test.cpio tools/iso.sh
	tools/iso.sh $@ build/debug/kernel.elf build/test.cpio

build/vmtest.iso: build/debug/kernel.elf build/vmtest.cpio tools/iso.sh
	tools/iso.sh $@ build/debug/kernel.elf build/vmtest.cpio

build/fuzz.iso: build/debug/kernel.elf build/fuzz.cpio tools/iso.sh
	tools/iso.sh $@ build/debug/kernel.elf build/fuzz.cpio "check=20 ms=8000 seed=3"

# ---- what to do with it -----------------------------------------------------------------------

export GUEST GUESTS GUEST_CONFIG GUEST_MEMORY GUEST_CPUS DISK PROGRAM
shell_files := build/release/kernel.elf build/user/root.image build/user/linux-library \
  $(linux_programs) $(patsubst %,build/user/%.elf,$(monitor) $(linuxd) $(apps))
run:
	@tools/deps.sh run
	@$(MAKE) --no-print-directory -s $(shell_files)
	@MEMORY=$(MEMORY) tools/run.sh --shell build/guest.cpio
	@$(PYTHON) tools/emu.py --kernel build/release/kernel.elf --archive build/guest.cpio \
	  --cpus $(CPUS) --memory $(MEMORY) --interactive

demo:
	@tools/deps.sh demo
	@$(MAKE) --no-print-directory -s build/debug/kernel.elf build/run.cpio
	@$(PYTHON) tools/emu.py --kernel build/debug/kernel.elf --archive build/run.cpio \
	  --cpus $(CPUS) --memory $(MEMORY) --interactive

iso:
	@tools/deps.sh iso
	@$(MAKE) --no-print-directory -s $(shell_files)
	@MEMORY=$(MEMORY) tools/run.sh --shell build/iso.cpio
	@tools/iso.sh build/exovisor.iso build/release/kernel.elf build/iso.cpio
	@echo "build/exovisor.iso: $$(($$(wc -c <build/exovisor.iso) >> 20)) MiB, for a machine with $(MEMORY) of memory or more"

# The last line printed is the verdict: "N passed, N failed".
test:
	@tools/deps.sh
	@$(MAKE) --no-print-directory all build/test.iso build/vmtest.iso $(shell_files)
	@$(PYTHON) tools/suite.py

test-long:
	@tools/deps.sh
	@tools/deps.sh proof
	@$(MAKE) --no-print-directory all build/test.iso build/vmtest.iso build/fuzz.iso $(shell_files)
	@$(PYTHON) tools/suite.py --long

bench:
	@tools/deps.sh bench
	@$(MAKE) --no-print-directory -s build/release/kernel.elf build/counting/kernel.elf images build/user/linux-library
	@$(PYTHON) bench/run.py
	@$(PYTHON) bench/guests.py
	@$(PYTHON) bench/linux.py

proof:
	@tools/deps.sh proof
	@$(MAKE) --no-print-directory -C tests/proof

fuzz:
	@tools/deps.sh fuzz
	@$(MAKE) --no-print-directory $(generated)
	@$(MAKE) --no-print-directory -C tests/fuzz run

# Everything that runs privileged, and the ABI headers that it is made from.
size:
	@tools/size.sh $(BUDGET)

formatted = $(wildcard abi/*.h kernel/*/*.[ch] lib/*/*.[ch] root/*.[ch] apps/*/*.[ch] apps/linux/*/*.[ch] vmm/*.[ch] \
              libos/*/*.[ch] libos/*/*/*.[ch] libos/*/*/*/*.[ch] tests/*/*.[ch] tests/*/*/*.[ch] bench/*/*.[ch])

# What users' code may do and the kernel's may not: strcmp as a truth value, products of small
# constants as lengths, text without its end in formats that have none, fields in an order for readers.
user_c = $(wildcard lib/*/*.c root/*.c apps/*/*.c vmm/*.c libos/*/*/*.c libos/*/*/*/*.c)
user_checks := -bugprone-suspicious-string-compare,-bugprone-implicit-widening-of-multiplication-result,$\
  -bugprone-not-null-terminated-result,-clang-analyzer-optin.performance.Padding

check:
	@tools/deps.sh check
	@$(MAKE) --no-print-directory size $(generated)
	clang-format --dry-run --Werror $(formatted)
	clang-tidy --quiet $(core_c) $(x86_c) -- $(filter-out -MMD -MP,$(kernel_flags)) -DEXO_DEBUG
	clang-tidy --quiet --checks=$(user_checks) $(user_c) -- $(filter-out -MMD -MP,$(user_flags))
	clang-tidy --quiet --checks=$(user_checks) $(wildcard apps/linux/*/*.c) -- -std=gnu11 -O2 $(warnings)

format:
	clang-format -i $(formatted)

clean:
	rm -rf build
