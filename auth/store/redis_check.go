package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// oldest is the oldest version of Redis that has all that a store needs: SET with NX and GET, and entries-added of a stream. Valkey
// says that it is 7.2.
const oldest = 7

// Check implements Checker.
func (s *server) Check(ctx context.Context) (warnings []string, err error) {
	err = s.call(ctx, func(ctx context.Context, c *redis.Client) error {
		text, err := c.Info(ctx, "server", "memory", "persistence").Result()
		if redis.HasErrorPrefix(err, "NOPERM") {
			warnings = append(warnings, "its user may not run INFO, so that usher cannot see whether it keeps what it is given; "+
				"allow it by +info")
		} else if err != nil {
			return err
		} else {
			found, err := s.judge(ctx, c, infoOf(text))
			if warnings = append(warnings, found...); err != nil {
				return err
			}
		}
		_, _, _, err = s.read(ctx, c, place{}) // the user may run scripts, and use the stream
		return err
	})
	if err != nil {
		return nil, err
	}
	for n := range warnings {
		warnings[n] = fmt.Sprintf("store %s: %s", s.name, warnings[n])
	}
	return warnings, nil
}

// infoOf reads the lines of INFO.
func infoOf(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	return info
}

func (s *server) judge(ctx context.Context, c *redis.Client, info map[string]string) (warnings []string, err error) {
	major, _, _ := strings.Cut(info["redis_version"], ".")
	if n, err := strconv.Atoi(major); err == nil && n < oldest {
		return nil, fmt.Errorf("%w: it is version %s, and usher needs Redis %d or Valkey", errTooOld, info["redis_version"], oldest)
	}
	most, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	if policy := info["maxmemory_policy"]; most > 0 && policy != "noeviction" {
		warnings = append(warnings, fmt.Sprintf("it may throw away sessions, revocations and used tokens when its memory is full "+
			"(maxmemory-policy %s); set maxmemory-policy noeviction", policy))
	}
	if most > 0 && used > most/5*4 {
		warnings = append(warnings, fmt.Sprintf("it uses %d of %d bytes of memory; raise maxmemory", used, most))
	}
	if info["aof_enabled"] == "0" {
		lost := "what was written since its last snapshot is lost when it stops"
		// The user need not be allowed to ask.
		if snapshots, err := c.ConfigGet(ctx, "save").Result(); err == nil && snapshots["save"] == "" {
			lost = "it keeps nothing on the disk, and all is lost when it stops"
		}
		warnings = append(warnings, lost+"; set appendonly yes")
	}
	return warnings, nil
}
