package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/ops"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// healthWithin is how long usher may take to say how it is.
const healthWithin = 5 * time.Second

func health() *cobra.Command {
	var listen string
	var files []string
	var alive, asJSON bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the running usher whether it is alive and ready",
		Long: `Ask the running usher, at ops.listen of its configuration, whether it is alive (/healthz) and ready (/readyz): connected to the server, with
its store and the keys of its issuers at hand. An usher that stands by for another one is ready, too.

Exit status: 0 if it is, 1 if it is not, or does not answer. Containers and supervisors can call it.`,
		Example: `  usher health -c usher.yaml
  usher health --listen unix:/run/usher/ops.sock --json`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			domain := ""
			if listen == "" {
				c, _, err := load(files, os.Environ(), new(keys.Cache))
				if err != nil {
					return fmt.Errorf("%w\nThe configuration is read for ops.listen only. To do without it: --listen ADDRESS", err)
				}
				listen, domain = c.Ops.Listen, c.XMPP.Domain.String()
			}
			if listen == "" {
				return errors.New("ops.listen is off, so nobody can ask usher how it is: set it, or name the address with --listen")
			}
			return askHealth(cmd.Context(), cmd.OutOrStdout(), listen, domain, alive, asJSON)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&listen, "listen", "", "`address` to ask: host:port, or unix: and the path of a socket\n(default: ops.listen of the configuration)")
	configFlag(cmd, &files)
	cmd.Flags().BoolVar(&alive, "alive", false, "ask only whether it is alive")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what usher answers about being ready")
	return cmd
}

// askHealth asks the usher at an address how it is, and says so. It must be the usher of the domain, unless that is empty: of two on one
// machine, the second one does not get the address of the first.
func askHealth(ctx context.Context, w io.Writer, listen, domain string, alive, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	client, err := healthClient(listen)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	if _, status, err := ask(ctx, client, "/healthz"); err != nil {
		return fmt.Errorf("usher does not answer on %s: %w", listen, err)
	} else if status == http.StatusServiceUnavailable {
		return fmt.Errorf("the work of the usher on %s has come to a halt: restart it", listen)
	} else if status != http.StatusOK {
		return fmt.Errorf("what answers on %s says %d to /healthz: is that usher?", listen, status)
	}
	if alive {
		fmt.Fprintln(w, "usher is alive.")
		return nil
	}
	body, status, err := ask(ctx, client, "/readyz")
	if err != nil {
		return fmt.Errorf("usher does not say on %s whether it is ready: %w", listen, err)
	}
	var ready ops.Readiness
	if err := json.Unmarshal(body, &ready); err != nil {
		return fmt.Errorf("what answers on %s says something else than usher does: is that usher?", listen)
	}
	if domain != "" && ready.Domain != "" && ready.Domain != domain {
		return fmt.Errorf("the usher of %s answers on %s, and not that of %s: give each usher an ops.listen of its own", printable.Lines(ready.Domain), listen, domain)
	}
	if asJSON {
		fmt.Fprintln(w, strings.TrimSpace(string(body)))
	}
	if status != http.StatusOK {
		return errors.New("usher is not ready: " + missing(ready))
	}
	switch {
	case asJSON:
	case ready.Role == "standby":
		fmt.Fprintln(w, "usher is ready, and stands by for another one.")
	default:
		fmt.Fprintln(w, "usher is ready.")
	}
	return nil
}

// missing says what an usher lacks that is not ready.
func missing(r ops.Readiness) string {
	var all []string
	for _, c := range r.Checks {
		if !c.OK {
			all = append(all, printable.Lines(c.Name+": "+c.Says))
		}
	}
	return strings.Join(all, "; ")
}

// healthClient returns a client that asks an usher at an address.
func healthClient(listen string) (*http.Client, error) {
	network, address := "tcp", listen
	if file, ok := strings.CutPrefix(listen, "unix:"); ok {
		network, address = "unix", file
	} else {
		host, port, err := net.SplitHostPort(listen)
		if err != nil {
			return nil, fmt.Errorf("%q is no address: write it like 127.0.0.1:8089, or unix:/run/usher/ops.sock", listen)
		}
		// Nobody can be asked at "any address".
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("localhost", port)
		}
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, Proxy: nil}}, nil
}

// ask asks for a path. The name in the request is one that usher answers to, however the machine is called.
func ask(ctx context.Context, client *http.Client, path string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, 0, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	return body, answer.StatusCode, err
}
