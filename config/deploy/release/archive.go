package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// compress writes a file compressed, without a name or time, as Debian wants it.
func compress(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeCompressed(to, content)
}

func writeCompressed(to string, content []byte) error {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, buf.Bytes(), 0o644)
}

// archive makes the .tar.gz of all that is staged so far.
func (r *release) archive() error {
	name := fmt.Sprintf("usher_%s_linux_%s", r.version, r.arch)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	// WalkDir goes in the order of names, so that the archive is always the same.
	err := filepath.WalkDir(r.stage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		within, err := filepath.Rel(r.stage, path)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if within == "usher" {
			mode = 0o755
		}
		err = w.WriteHeader(&tar.Header{
			Name: name + "/" + within, Mode: mode, Size: int64(len(content)), ModTime: r.at, Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		})
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return writeCompressed(filepath.Join(r.out, name+".tar.gz"), buf.Bytes())
}

// debianVersion returns a version as Debian orders it: what comes before a release has a tilde. A hyphen would begin Debian's own part.
func debianVersion(version string) string {
	return strings.ReplaceAll(strings.Replace(version, "-", "~", 1), "-", ".")
}

// packageDebian makes the Debian package by nfpm.yaml.
func (r *release) packageDebian() error {
	version := debianVersion(r.version)
	entry := fmt.Sprintf("usher (%s-1) unstable; urgency=medium\n\n  * What changed for users is in changelog.gz.\n\n"+
		" -- The usher authors <xmpp-usher@users.noreply.github.com>  %s\n", version, r.at.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	if err := writeCompressed(filepath.Join(r.stage, "changelog.Debian.gz"), []byte(entry)); err != nil {
		return err
	}
	if err := compress("CHANGELOG.md", filepath.Join(r.stage, "changelog.gz")); err != nil {
		return err
	}
	return command(r.stage, append(r.environ(), "VERSION="+version, "ARCH="+r.arch),
		r.nfpm, "package", "--config", "deploy/debian/nfpm.yaml", "--packager", "deb", "--target", r.out)
}

// checksums writes SHA256SUMS, for "sha256sum -c".
func checksums(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
