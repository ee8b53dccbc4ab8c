package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// minimal is a configuration for Prosody's rooms, with an issuer that signs with app.secret.
const minimal = `xmpp: {domain: focus.example.com, secret_file: component.secret}
rooms: {services: [conference.example.com]}
vhosts:
  example.com: {kind: token, app_id: my_app, app_secret_file: app.secret, domain_verification: false}
  guest.example.com: {kind: guest}
`

func TestLintian(t *testing.T) {
	deploytest.Need(t, "lintian")
	said, err := exec.Command("lintian", "--allow-root", "--fail-on", "error", debFile(t)).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("%s", said)
}

// TestPackage installs, configures, upgrades, removes and purges the package beside Prosody.
func TestPackage(t *testing.T) {
	d := deploytest.NewDebian(t)
	before := files(t, d)
	given(t, d, debFile(t), "tmp/usher.deb")
	if said := d.Must("dpkg -i /tmp/usher.deb"); !strings.Contains(said, "not configured yet: /usr/share/doc/usher/README.Debian") {
		t.Errorf("the installation does not say how to go on:\n%s", said)
	}
	examineInstalled(t, d)
	unit := d.Read("lib/systemd/system/usher.service")

	// As installed, the unit is skipped. usher itself would say what is missing.
	condition := strings.TrimSuffix(strings.TrimPrefix(setting(t, unit, "ExecCondition"), "/bin/sh -c '"), "'")
	if said, status := d.Run(condition); status != 1 || !strings.Contains(said, "README.Debian") {
		t.Errorf("the condition of the unit: %d %s", status, said)
	}
	serve := setting(t, unit, "ExecStart")
	never := setting(t, unit, "RestartPreventExitStatus")
	if said, status := d.Run("runuser -u usher -- " + serve + "; s=$?; [ $s = " + never + " ] && exit 0; exit $s"); status != 0 || !strings.Contains(said, "xmpp.domain: is missing") {
		t.Errorf("usher without a configuration: %d\n%s", status, said)
	}

	d.Write("etc/usher/usher.yaml", minimal)
	d.Must("umask 027; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >/etc/usher/app.secret; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >>/etc/usher/app.secret; chgrp usher /etc/usher/app.secret")
	if said, status := d.Run(condition); status != 0 {
		t.Errorf("the condition of the unit: %d %s", status, said)
	}
	d.Must("runuser -u usher -- usher config check -c /etc/usher/usher.yaml")
	if said, status := d.Run("runuser -u usher -- cat /etc/prosody/prosody.cfg.lua >/dev/null"); status != 0 {
		t.Errorf("usher cannot read Prosody's files: %s", said)
	}

	// root makes an account of the portal, and usher can read it.
	d.Must("echo 'the swallows of verona' | usher user add juliet --rooms '*' --users-file /etc/usher/users.yaml")
	if said := d.Must("stat -c '%U:%G %a' /etc/usher/users.yaml"); said != "root:usher 640\n" {
		t.Errorf("users.yaml: %s", said)
	}
	d.Must("runuser -u usher -- grep -q juliet /etc/usher/users.yaml")

	upgraded(t, d)
	d.Must("mkdir -p /var/lib/usher /var/log/usher; touch /var/lib/usher/focus.example.com.db; chown -R usher /var/lib/usher")
	d.Must("dpkg -r usher")
	if d.Read("etc/usher/usher.yaml") != minimal || d.Read("etc/usher/component.secret") == "" {
		t.Error("the removal lost the configuration")
	}
	if _, err := os.Stat(d.Path("usr/bin/usher")); err == nil {
		t.Error("the program is left")
	}
	given(t, d, debFile(t), "tmp/usher.deb")
	d.Must("dpkg -i --force-confold /tmp/usher.deb") // it finds the configuration
	if d.Read("etc/usher/usher.yaml") != minimal {
		t.Error("the second installation changed the configuration")
	}
	d.Must("rm -f /etc/usher/app.secret /etc/usher/users.yaml /tmp/usher.deb; dpkg -P usher")
	if got := files(t, d); got != before {
		t.Errorf("after the purge there is something else than before:\n%s", differing(before, got))
	}
}

// examineInstalled checks who may read what, and that the system knows the unit, the pages and the completions.
func examineInstalled(t *testing.T, d *deploytest.Debian) {
	t.Helper()
	for line, want := range map[string]string{
		"id -nG usher":                                                                           "usher prosody\n",
		"stat -c '%U:%G %a' /etc/usher":                                                          "root:usher 750\n",
		"stat -c '%U:%G %a' /etc/usher/component.secret":                                         "root:usher 640\n",
		"stat -c '%U:%G %a' /etc/usher/usher.yaml":                                               "root:usher 640\n",
		"wc -c </etc/usher/component.secret":                                                     "64\n",
		"getent passwd usher | cut -d: -f6,7":                                                    "/var/lib/usher:/usr/sbin/nologin\n",
		"readlink /etc/systemd/system/multi-user.target.wants/usher.service":                     "/lib/systemd/system/usher.service\n",
		"usher completion bash | cmp - /usr/share/bash-completion/completions/usher":             "",
		"usher completion zsh | cmp - /usr/share/zsh/vendor-completions/_usher":                  "",
		"usher completion fish | cmp - /usr/share/fish/vendor_completions.d/usher.fish":          "",
		"bash -n /usr/share/bash-completion/completions/usher":                                   "",
		"zcat /usr/share/man/man1/usher-serve.1.gz | grep -c '^.SH'":                             "6\n",
		"cat /usr/share/doc/usher/README.Debian /usr/share/doc/usher/copyright | grep -c Apache": "2\n",
	} {
		if said := d.Must(line); said != want {
			t.Errorf("%s: %q, want %q", line, said, want)
		}
	}
	if said := d.Must("usher --version"); !regexp.MustCompile(`^usher v?[0-9].* \(commit [0-9a-f]{12}, go1\.[0-9.]+ linux/`).MatchString(said) {
		t.Error(said)
	}
}

// upgraded installs a later version of the package. What the administrator has changed stays.
func upgraded(t *testing.T, d *deploytest.Debian) {
	t.Helper()
	folder := t.TempDir()
	output(t, "dpkg-deb", "-R", debFile(t), folder)
	control := filepath.Join(folder, "DEBIAN", "control")
	content, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAllString(string(content), "Version: 99.0.0-1")
	if err := os.WriteFile(control, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, "dpkg-deb", "-b", "--root-owner-group", folder, d.Path("tmp/next.deb"))
	secret := d.Read("etc/usher/component.secret")
	d.Must("chmod 0600 /etc/usher/component.secret; chown usher /etc/usher/component.secret")
	const modules = "/usr/local/lib/prosody/modules"
	d.Must("mkdir -p " + modules + "; echo '-- mod_muc_affiliated_only, which comes with usher: an old one' >" + modules + "/mod_muc_affiliated_only.lua")
	if said := d.Must("dpkg -i /tmp/next.deb; rm /tmp/next.deb"); !strings.Contains(said, "module for Prosody is renewed") {
		t.Errorf("the upgrade does not say that the module is renewed:\n%s", said)
	}
	if got, want := d.Must("cat "+modules+"/mod_usher.lua"), string(module.Source); got != want {
		t.Errorf("the module after the upgrade:\n%s", got)
	}
	d.Must("! grep -q 'an old one' " + modules + "/mod_muc_affiliated_only.lua; rm -r /usr/local/lib/prosody")
	if d.Read("etc/usher/usher.yaml") != minimal || d.Read("etc/usher/component.secret") != secret ||
		d.Must("stat -c '%U %a' /etc/usher/component.secret") != "usher 600\n" {
		t.Error("the upgrade changed something in /etc/usher")
	}
	if said := d.Must("dpkg-query -W -f '${Version} ${Status}' usher"); said != "99.0.0-1 install ok installed" {
		t.Error(said)
	}
}

// TestPackageBeforeProsody installs the package where there is no Prosody. When Prosody comes, usher's user joins its group.
func TestPackageBeforeProsody(t *testing.T) {
	d := deploytest.NewDebian(t)
	d.Must("dpkg -P prosody; groupdel prosody 2>/dev/null || true")
	given(t, d, debFile(t), "tmp/usher.deb")
	d.Must("dpkg -i /tmp/usher.deb")
	if said := d.Must("id -nG usher"); said != "usher\n" {
		t.Error(said)
	}
	d.Must("dpkg -i /var/cache/apt/archives/prosody_*.deb")
	if said := d.Must("id -nG usher"); said != "usher prosody\n" {
		t.Error(said)
	}
	d.Must("dpkg -P usher")
	if said, status := d.Run("getent passwd usher"); status == 0 {
		t.Errorf("the user is left: %s", said)
	}
}

// files returns all files of a Debian with mode and owner, and the content of those that name users. Logs, caches and dpkg's own records
// are left out.
func files(t *testing.T, d *deploytest.Debian) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(d.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(d.Dir, path)
		switch name {
		case "proc", "sys", "dev", "var/log", "var/cache", "var/lib/dpkg", "tmp":
			return fs.SkipDir
		case "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", ".":
			return nil // what was before the last change
		}
		stat, err := e.Info()
		if err != nil {
			return err
		}
		all.WriteString(stat.Mode().String() + " " + name + "\n")
		switch name {
		case "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow":
			content, err := os.ReadFile(path)
			all.Write(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// differing returns the lines that only one of two texts has.
func differing(before, after string) string {
	var out strings.Builder
	for sign, texts := range map[string][2]string{"- ": {before, after}, "+ ": {after, before}} {
		for line := range strings.Lines(texts[0]) {
			if !strings.Contains(texts[1], line) {
				out.WriteString(sign + line)
			}
		}
	}
	return out.String()
}
