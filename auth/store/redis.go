package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrUnreachable means that the server of the store did not answer, or cannot serve now. Whether it has done what it was asked is not
// known. The next call tries again.
var ErrUnreachable = errors.New("the server cannot be reached")

// RedisOptions say where a Redis is, and how to talk to it.
type RedisOptions struct {
	// URL is one of these, with the options of github.com/redis/go-redis/v9 behind the question mark:
	//
	//	redis://user@host:6379/0                              one server; rediss:// with TLS, unix:///path/to/socket?db=0 without TCP
	//	redis://sentinel1:26379/0?master_name=usher&addr=sentinel2:26379&username=user
	//	                                                      Sentinel: master_name makes the difference; the user in front of the
	//	                                                      host is for the sentinels
	//	redis://user@host1:6379?addr=host2:6379               Cluster: addr without master_name makes the difference; it names further
	//	                                                      nodes, or the same one again
	//
	// A password may be in it, but is better kept in Password.
	URL string
	// Password is the password of the user, and replaces one in the URL. With Sentinel it is the server's, and that of a user for
	// the sentinels who has none.
	Password string
	// CA has certificates in PEM of those who sign the server's certificate; nil means those that the machine trusts. It needs
	// rediss://.
	CA []byte
	// Prefix begins all keys, so that others can use the server, too. Ushers with the same prefix share a store. Empty means
	// "usher".
	Prefix string
}

// Checker is a [Store] on a server that usher does not configure.
type Checker interface {
	// Check asks the server whether it can keep what a store promises. Warnings are for the operator: what may be lost, and what to
	// do. An error says why the server cannot be used now.
	Check(ctx context.Context) (warnings []string, err error)
}

var _ Checker = (*server)(nil)

// Bounds of the time that a call takes when the server does not answer. The URL may say otherwise.
const (
	dialTimeout   = time.Second
	answerTimeout = time.Second
	// connections is the number of calls at a time. The others wait, at most for answerTimeout.
	connections = 64
)

// Redis returns the store in a Redis 7 or Valkey. It does not fail when the server is away: then calls return ErrUnreachable, within
// about a second, and work again as soon as the server does. Errors never contain a password.
//
// All keys have one hash tag, {Prefix}. So a cluster keeps them in one place, and several records can be put together. A cluster
// serves to take over from a node that fails, not to spread the load.
//
// The server ends records, at the millisecond after their end. Options.Now only says how much time is left when a record is put. So
// ushers agree on what is there, also if the clocks of their machines differ. Options.MaxBytes and Warn do not count: the memory is the
// server's. The server should not evict keys (maxmemory-policy noeviction), and should write each change
// to the disk (appendonly yes); Check warns if it does not. With appendfsync everysec, Redis' default, changes of the last second are
// lost if its machine stops, and likewise when a replica takes over.
//
// A user for usher alone needs ~{usher}:* +@read +@write +@connection +@scripting +info, and in a cluster +cluster|slots.
func Redis(o Options, r RedisOptions) (Store, error) {
	logging.Disable() // the library writes to stderr
	s := &server{o: o.orDefaults(0), closing: make(chan struct{})}
	if r.Prefix == "" {
		r.Prefix = "usher"
	}
	if strings.ContainsAny(r.Prefix, "{}") {
		return nil, errors.New("the prefix of the store's keys must not contain { or }; choose another one")
	}
	s.prefix = "{" + r.Prefix + "}:"
	if err := s.connect(r); err != nil {
		return nil, err
	}
	return s, nil
}

// server is a store in a Redis.
type server struct {
	o       Options
	name    string   // for errors
	secrets []string // what errors must not contain
	prefix  string   // of all keys, with a colon at the end

	client  *redis.Client        // nil for a cluster
	cluster *redis.ClusterClient // nil otherwise
	block   time.Duration        // of one read of the stream

	mu      sync.Mutex
	closed  bool
	calls   sync.WaitGroup
	follows sync.WaitGroup
	closing chan struct{}
}

// errURL does not quote the URL, which may contain a password. The errors of the packages do.
var errURL = errors.New("the URL of the store is not one of Redis; write redis://host:6379, rediss://host:6379, unix:///path/to/socket, " +
	"or see the documentation for Sentinel and Cluster. A password with special characters is percent-encoded, or in a file of its own")

// connect makes the client of a URL. It connects to nothing yet.
func (s *server) connect(r RedisOptions) error {
	u, err := url.Parse(r.URL)
	if err != nil {
		return errURL
	}
	password, _ := u.User.Password()
	query := u.Query()
	for _, secret := range append(query["password"], password, r.Password) {
		if secret != "" {
			s.secrets = append(s.secrets, secret, url.QueryEscape(secret), url.PathEscape(secret))
		}
	}
	switch {
	case u.Scheme == "unix" && u.Path == "":
		return errURL
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(r.URL)
		if err != nil {
			return s.unread(err)
		}
		if err := trust(o.TLSConfig, r.CA); err != nil {
			return err
		}
		if r.Password != "" {
			o.Password = r.Password
			if o.SentinelUsername != "" && o.SentinelPassword == "" {
				o.SentinelPassword = r.Password
			}
		}
		if o.RouteByLatency || o.RouteRandomly || o.ReplicaOnly {
			return errors.New("a store needs the master, not a replica; remove route_by_latency, route_randomly and replica_only from its URL")
		}
		s.name = fmt.Sprintf("redis %s of %s", o.MasterName, strings.Join(o.SentinelAddrs, ", "))
		s.bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize)
		o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = 2, true, false
		o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
		s.client = redis.NewFailoverClient(o)
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(r.URL)
		if err != nil {
			return s.unread(err)
		}
		if err := trust(o.TLSConfig, r.CA); err != nil {
			return err
		}
		if r.Password != "" {
			o.Password = r.Password
		}
		s.name = fmt.Sprintf("redis cluster %s", strings.Join(o.Addrs, ", "))
		s.bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize)
		o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = 2, true, false
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
		s.cluster = redis.NewClusterClient(o)
	default:
		o, err := redis.ParseURL(r.URL)
		if err != nil {
			return s.unread(err)
		}
		if err := trust(o.TLSConfig, r.CA); err != nil {
			return err
		}
		if r.Password != "" {
			o.Password = r.Password
		}
		s.name = fmt.Sprintf("redis %s", o.Addr)
		s.bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.PoolSize, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize)
		o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = 2, true, false
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
		s.client = redis.NewClient(o)
	}
	return nil
}

// unread returns the error of a URL that the library cannot read.
func (s *server) unread(err error) error {
	var parsing *url.Error
	if errors.As(err, &parsing) {
		return errURL
	}
	return fmt.Errorf("%w (%s)", errURL, s.clean(err.Error()))
}

// bound sets what the URL leaves open. A call is never repeated by the library: what it does twice may undo what somebody else has
// done in between.
func (s *server) bound(dial, read, write, wait *time.Duration, size, retries, dials, pipelines *int) {
	for _, each := range []struct {
		timeout *time.Duration
		most    time.Duration
	}{{dial, dialTimeout}, {read, answerTimeout}, {write, answerTimeout}, {wait, answerTimeout}} {
		if *each.timeout <= 0 {
			*each.timeout = each.most
		}
	}
	if *size <= 0 {
		*size = connections
	}
	*retries, *dials, *pipelines = -1, 1, -1
	s.block = min(*read/2, 500*time.Millisecond)
}

// trust sets the certificates to trust.
func trust(o *tls.Config, ca []byte) error {
	switch {
	case len(ca) == 0:
		return nil
	case o == nil:
		return errors.New("certificates for the store need TLS; write rediss:// in its URL")
	}
	o.RootCAs = x509.NewCertPool()
	if !o.RootCAs.AppendCertsFromPEM(ca) {
		return errors.New("there is no certificate in PEM among those for the store")
	}
	return nil
}

// dialer returns a function that connects. It reports a failure by a connection that cannot be used. Otherwise the library would not
// dial for up to a second after some failures, also when the server is back.
func dialer(timeout time.Duration, o *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return unreached{err: err}, nil
		}
		if o == nil {
			return conn, nil
		}
		secure := tls.Client(conn, o)
		if err := secure.HandshakeContext(ctx); err != nil {
			return unreached{err: errors.Join(err, conn.Close())}, nil
		}
		return secured{secure}, nil
	}
}

// unreached is a connection that could not be made.
type unreached struct {
	net.Conn // nil
	err      error
}

func (u unreached) Read([]byte) (int, error)         { return 0, u.err }
func (u unreached) Write([]byte) (int, error)        { return 0, u.err }
func (u unreached) Close() error                     { return nil }
func (u unreached) SetDeadline(time.Time) error      { return nil }
func (u unreached) SetReadDeadline(time.Time) error  { return nil }
func (u unreached) SetWriteDeadline(time.Time) error { return nil }
func (u unreached) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (u unreached) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// secured is a connection with TLS that lets the library see whether the other end has closed it, as it sees without TLS. Otherwise
// each connection fails once after the server was restarted. The server sends nothing by itself after the handshake but its farewell.
type secured struct{ *tls.Conn }

func (s secured) SyscallConn() (syscall.RawConn, error) {
	raw, is := s.NetConn().(syscall.Conn)
	if !is {
		return nil, errors.ErrUnsupported
	}
	return raw.SyscallConn()
}

// node returns the client of the server that has the keys.
func (s *server) node(ctx context.Context) (*redis.Client, error) {
	if s.cluster == nil {
		return s.client, nil
	}
	return s.cluster.MasterForKey(ctx, s.prefix)
}

// begin lets a call begin. The caller calls done when it is over.
func (s *server) begin(wait *sync.WaitGroup) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	wait.Add(1)
	return nil
}

// call runs a call that has begun. Its context has no end: nobody would know whether it was done. The timeouts bound it.
func (s *server) call(ctx context.Context, do func(ctx context.Context, c *redis.Client) error) error {
	if err := s.begin(&s.calls); err != nil {
		return err
	}
	defer s.calls.Done()
	return s.said(s.run(context.WithoutCancel(ctx), do))
}

// run runs do with the right node of a cluster. After an error the client learns meanwhile which node has the keys now.
func (s *server) run(ctx context.Context, do func(ctx context.Context, c *redis.Client) error) error {
	c, err := s.node(ctx)
	if err == nil {
		err = do(ctx, c)
	}
	if err != nil && !errors.Is(err, redis.Nil) && s.cluster != nil {
		s.cluster.ReloadState(ctx)
	}
	return err
}

// errTooOld means that the server lacks what a store needs.
var errTooOld = errors.New("the server is too old")

// cannotServe are the answers of a server that may serve later.
var cannotServe = []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "MOVED", "ASK", "ERR max number of clients"}

// said turns an error of the library into one of this package.
func (s *server) said(err error) error {
	var answered redis.Error
	text := ""
	if err != nil {
		text = s.clean(err.Error())
	}
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return err
	case errors.Is(err, errDamaged), errors.Is(err, errTooOld):
		return fmt.Errorf("store %s: %w", s.name, err)
	case errors.As(err, &answered) && !errors.Is(err, redis.ErrPoolTimeout) && !errors.Is(err, redis.ErrClosed):
		if redis.HasErrorPrefix(err, "OOM") || strings.Contains(text, "OOM command not allowed") {
			return fmt.Errorf("store %s: %w", s.name, &FullError{Err: fmt.Errorf("raise its maxmemory (%s)", text)})
		}
		for _, prefix := range cannotServe {
			if strings.HasPrefix(text, prefix) {
				return fmt.Errorf("store %s: %w: %s", s.name, ErrUnreachable, text)
			}
		}
		return fmt.Errorf("store %s: the server refuses: %s%s", s.name, text, s.remedy(text))
	case errors.Is(err, io.EOF):
		text = "it has closed the connection"
	}
	return fmt.Errorf("store %s: %w: %s", s.name, ErrUnreachable, text)
}

// remedy says what to do about an answer.
func (s *server) remedy(text string) string {
	switch code, _, _ := strings.Cut(text, " "); code {
	case "NOAUTH", "WRONGPASS":
		return "; correct the user in the URL of the store, or the password"
	case "NOPERM":
		return fmt.Sprintf("; allow the user ~%s* +@read +@write +@connection +@scripting +info, and in a cluster +cluster|slots", s.prefix)
	case "MISCONF":
		return "; mend what keeps the server from writing to its disk"
	}
	return ""
}

// clean takes out of a text what it must not contain. An old server that knows no HELLO quotes the password.
func (s *server) clean(text string) string {
	text, _, _ = strings.Cut(text, ", with args")
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}

func (s *server) key(k Kind, key string) string { return s.prefix + string(k) + ":" + key }

// A value at the server is the end of the record (seconds since 1970 in 19 digits, nanoseconds in 9), and the record's value.
const serverEndLen = 19 + 9

func serverEncode(r Record) string {
	return fmt.Sprintf("%019d%09d%s", r.End.Unix(), r.End.Nanosecond(), r.Value)
}

func serverDecode(k Kind, key, value string) (Record, error) {
	if len(value) < serverEndLen {
		return Record{}, errDamaged
	}
	seconds, err := strconv.ParseInt(value[:19], 10, 64)
	nanos, err2 := strconv.ParseInt(value[19:serverEndLen], 10, 64)
	if err != nil || err2 != nil {
		return Record{}, errDamaged
	}
	return Record{Kind: k, Key: key, Value: []byte(value[serverEndLen:]), End: time.Unix(seconds, nanos).UTC()}, nil
}

// life returns how long a record lives, in milliseconds; 0 if it has ended. The server must not end it early, but the library counts
// to 292 years.
func (s *server) life(r Record) time.Duration {
	const longest = 200 * 365 * 24 * time.Hour
	left := min(r.End.Sub(s.o.Now()), longest)
	if left <= 0 {
		return 0
	}
	return (left + time.Millisecond - 1).Truncate(time.Millisecond)
}

// putScript puts records with the keys KEYS. ARGV has for each its value, and its life in milliseconds; 0 deletes it. (The library does
// not tell why a transaction by MULTI fails.) A server without room refuses the first command, if that is a SET, or none.
var putScript = redis.NewScript(`
for i, key in ipairs(KEYS) do
	if ARGV[2 * i] == '0' then
		redis.call('DEL', key)
	else
		redis.call('SET', key, ARGV[2 * i - 1], 'PX', ARGV[2 * i])
	end
end
return 1
`)

// Put implements Store.
func (s *server) Put(ctx context.Context, records ...Record) error {
	if err := beginPut(ctx, records); err != nil {
		return err
	}
	var keys []string
	var args []any
	for _, r := range records {
		keys = append(keys, s.key(r.Kind, r.Key))
		args = append(args, serverEncode(r), s.life(r).Milliseconds())
	}
	return s.call(ctx, func(ctx context.Context, c *redis.Client) error {
		if len(records) == 0 {
			return nil
		}
		return putScript.Run(ctx, c, keys, args...).Err()
	})
}

// Add implements Store.
func (s *server) Add(ctx context.Context, r Record) (there Record, added bool, err error) {
	if err := beginPut(ctx, []Record{r}); err != nil {
		return Record{}, false, err
	}
	err = s.call(ctx, func(ctx context.Context, c *redis.Client) error {
		var value string
		var err error
		if life := s.life(r); life > 0 {
			value, err = c.SetArgs(ctx, s.key(r.Kind, r.Key), serverEncode(r), redis.SetArgs{Mode: "NX", Get: true, TTL: life}).Result()
		} else {
			value, err = c.Get(ctx, s.key(r.Kind, r.Key)).Result()
		}
		if errors.Is(err, redis.Nil) {
			added = true
			return nil
		}
		if err != nil {
			return err
		}
		there, err = serverDecode(r.Kind, r.Key, value)
		return err
	})
	if err != nil {
		return Record{}, false, err
	}
	return there, added, nil
}

// swapScript puts ARGV[2] in the place of a record with the value ARGV[1], for ARGV[3] milliseconds; 0 deletes it. A server without room
// does so, too: otherwise no usher could renew its lease, and nobody would be let in.
var swapScript = redis.NewScript(`#!lua flags=allow-oom
local there = redis.call('GET', KEYS[1])
if not there or string.sub(there, ` + strconv.Itoa(serverEndLen+1) + `) ~= ARGV[1] then
	return 0
end
if ARGV[3] == '0' then
	redis.call('DEL', KEYS[1])
else
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
`)

// Swap implements Store.
func (s *server) Swap(ctx context.Context, old, new Record) (swapped bool, err error) {
	if err := beginSwap(ctx, old, new); err != nil {
		return false, err
	}
	err = s.call(ctx, func(ctx context.Context, c *redis.Client) error {
		n, err := swapScript.Run(ctx, c, []string{s.key(old.Kind, old.Key)}, old.Value, serverEncode(new), s.life(new).Milliseconds()).Int()
		swapped = n == 1
		return err
	})
	return swapped && err == nil, err
}

// Get implements Store.
func (s *server) Get(ctx context.Context, k Kind, key string) (r Record, err error) {
	if err := begin(ctx, k); err != nil {
		return Record{}, err
	}
	err = s.call(ctx, func(ctx context.Context, c *redis.Client) error {
		value, err := c.Get(ctx, s.key(k, key)).Result()
		if err == nil {
			r, err = serverDecode(k, key, value)
		}
		return err
	})
	if errors.Is(err, redis.Nil) {
		return Record{}, ErrNotFound
	}
	return r, err
}

// Delete implements Store.
func (s *server) Delete(ctx context.Context, k Kind, keys ...string) error {
	if err := begin(ctx, k); err != nil {
		return err
	}
	if len(keys) == 0 {
		return s.call(ctx, func(context.Context, *redis.Client) error { return nil })
	}
	for len(keys) > 0 {
		some := make([]string, min(len(keys), serverChunk)) // more at a time would keep others waiting
		for n := range some {
			some[n] = s.key(k, keys[n])
		}
		keys = keys[len(some):]
		if err := s.call(ctx, func(ctx context.Context, c *redis.Client) error { return c.Del(ctx, some...).Err() }); err != nil {
			return err
		}
	}
	return nil
}

// serverChunk is the number of keys in one command.
const serverChunk = 1000

// glob quotes what MATCH does not take literally.
var glob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// All implements Store. It reads by one connection: after a restart the server's cursor would skip records, and then the connection
// ends. The server may find a key twice.
func (s *server) All(ctx context.Context, k Kind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var conn *redis.Conn
		defer func() {
			if conn != nil {
				_ = conn.Close() // it goes back to the others
			}
		}()
		seen := map[string]bool{}
		prefix := s.key(k, "")
		for cursor := uint64(0); ; {
			err := begin(ctx, k)
			var records []Record
			if err == nil {
				err = s.call(ctx, func(ctx context.Context, c *redis.Client) (err error) {
					if conn == nil {
						conn = c.Conn()
					}
					var keys []string
					keys, cursor, err = conn.Scan(ctx, cursor, glob.Replace(prefix)+"*", serverChunk).Result()
					if err != nil || len(keys) == 0 {
						return err
					}
					values, err := conn.MGet(ctx, keys...).Result()
					if err != nil {
						return err
					}
					for n, value := range values {
						text, is := value.(string)
						key := keys[n][len(prefix):]
						if !is || seen[key] {
							continue
						}
						seen[key] = true
						r, err := serverDecode(k, key, text)
						if err != nil {
							return err
						}
						records = append(records, r)
					}
					return nil
				})
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			if cursor == 0 {
				return
			}
		}
	}
}

// Close implements Store.
func (s *server) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	close(s.closing)
	s.calls.Wait()
	var err error
	if s.cluster != nil {
		err = s.cluster.Close()
	} else {
		err = s.client.Close()
	}
	s.follows.Wait()
	return err
}
