#!/bin/sh
# Installs what the tests need beside Go, and says what it found or did.
#
#   Prosody 0.12, Node.js, npm            by apt, from Debian 12
#   Prosody 13                            from Debian's backports, unpacked into .prosody/13; nothing of it is installed
#   testdata/node/node_modules            by npm ci, from the lock file
#
# It can be run again at any time and is quick when nothing is missing. The machine's apt configuration stays as it is,
# and no Prosody is left running because of it.
set -eu
cd "$(dirname "$0")/../.."
unpacked=$PWD/.prosody/13

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- Packages of Debian 12 ---------------------------------------------------------------------------------------

# Debian starts a service as soon as it is installed, unless /usr/sbin/policy-rc.d says no. If nothing says so already,
# we do, for as long as apt runs.
without_services() (
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		trap 'exit 1' INT TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	"$@"
)

missing=
have prosody || missing="$missing prosody lua-bitop"
have node || missing="$missing nodejs"
have npm || missing="$missing npm"
missing=${missing# }

if [ -z "$missing" ]; then
	say "found prosody, node and npm"
else
	have apt-get || die "this is not Debian; install by hand: $missing"
	[ "$(id -u)" = 0 ] || die "not root; run: sudo apt-get install --no-install-recommends $missing"
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of words
	install() { without_services apt-get -qq install --no-install-recommends $missing >/dev/null; }
	if ! install 2>/dev/null; then # the package lists may be missing, or old
		say "apt-get update"
		apt-get -qq update
		install
	fi
	say "installed $missing"
	case $missing in
	prosody*) # nor at the next boot
		if have systemctl; then systemctl --quiet disable prosody 2>/dev/null || true; fi ;;
	esac
fi

# --- Prosody 13, beside it ---------------------------------------------------------------------------------------

# unpack_prosody needs no root. Its apt knows one source, backports from the mirror this machine uses already, and keeps
# all it writes in a folder of its own.
unpack_prosody() (
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	mirror() { apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^bookworm //p' | head -n 1; }
	source=$(mirror)
	if [ -z "$source" ]; then
		[ "$(id -u)" = 0 ] || die "apt has no package lists; run: sudo apt-get update"
		apt-get -qq update
		source=$(mirror)
	fi
	[ -n "$source" ] || die "apt has no source for Debian bookworm; Prosody 13 is taken from its backports"

	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/13"
	echo "deb [signed-by=$keyring] $source bookworm-backports main" >"$work/sources.list"
	backports() {
		apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
			-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
	}
	backports update
	(cd "$work" && backports download prosody/bookworm-backports)
	dpkg -x "$work"/prosody_13.*.deb "$work/13"

	for script in prosody prosodyctl; do
		sed -i -e "s|^CFG_SOURCEDIR=.*|CFG_SOURCEDIR='$unpacked/usr/lib/prosody';|" \
			-e "s|^CFG_CONFIGDIR=.*|CFG_CONFIGDIR='$unpacked/etc/prosody';|" \
			-e "s|^CFG_PLUGINDIR=.*|CFG_PLUGINDIR='$unpacked/usr/lib/prosody/modules/';|" \
			-e "s|^CFG_DATADIR=.*|CFG_DATADIR='$unpacked/var/lib/prosody';|" "$work/13/usr/bin/$script"
	done
	rm -rf "$unpacked"
	mkdir -p "$(dirname "$unpacked")"
	cp -a "$work/13" "$unpacked"
)

# The script names its folder, so it is unpacked again when the checkout was moved.
if grep -qs "^CFG_SOURCEDIR='$unpacked/" "$unpacked/usr/bin/prosody"; then
	say "found Prosody 13 in .prosody/13"
else
	have apt-get || die "this is not Debian; Prosody 13 is taken from Debian's backports"
	unpack_prosody
	say "unpacked Prosody 13 into .prosody/13"
fi

# --- Node modules ------------------------------------------------------------------------------------------------

# npm writes node_modules/.package-lock.json last, so its time says whether the folder is complete and up to date.
if [ testdata/node/node_modules/.package-lock.json -nt testdata/node/package-lock.json ]; then
	say "found testdata/node/node_modules"
else
	(cd testdata/node && npm ci --loglevel=error --no-audit --no-fund >/dev/null)
	say "npm ci in testdata/node"
fi

# --- How tests find them -----------------------------------------------------------------------------------------

say "tests run beside $(command -v prosody) ($(cat /usr/lib/prosody/prosody.version 2>/dev/null || echo its own version)), unless told otherwise:"
echo "PROSODYTEST_PROSODY=$(command -v prosody)"
echo "PROSODYTEST_PROSODY=$unpacked/usr/bin/prosody"
