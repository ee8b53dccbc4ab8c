package adopt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// root is the folder that stands for /. Names count from it, and so do absolute symbolic links, as in a chroot: Debian's Jitsi links
// /etc/prosody/conf.d/DOMAIN.cfg.lua to /etc/prosody/conf.avail by an absolute name.
type root string

// maxLinks is how many symbolic links a name may lead over, as in Linux (path_resolution(7)).
const maxLinks = 40

// follow returns the name to which the symbolic links of an absolute name lead. Parts that do not exist stay as they are.
func (r root) follow(name string) (string, error) {
	done, left, links := "/", strings.Split(filepath.Clean(name), "/"), 0
	for len(left) > 0 {
		part := left[0]
		left = left[1:]
		if part == ".." {
			done = filepath.Dir(done)
		}
		if part == "" || part == "." || part == ".." {
			continue
		}
		next := filepath.Join(done, part)
		target, err := os.Readlink(r.at(next))
		if err != nil { // no link, or nothing at all
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", name)
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return done, nil
}

// at returns the machine's name of an absolute name.
func (r root) at(name string) string { return filepath.Join(string(r), name) }
