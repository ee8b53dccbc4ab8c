package audit_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/audit"
)

const childEnv = "AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if n := os.Getenv(childEnv); n != "" {
		toStderr(n)
	}
	goleak.VerifyTestMain(m)
}

// patience is ample on a busy machine.
const patience = time.Minute

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

var at = time.Date(2026, 11, 26, 9, 30, 0, 125_000_400, time.UTC)

func decision() component.Report {
	return component.Report{
		What: component.Decided, At: at, Room: jid.MustParse("standup@conference.example.com"), Name: "standup",
		Who: jid.MustParse("juliet@example.com/balcony"), VHost: "example.com", Verdict: auth.Allow, Reason: auth.ReasonHost,
		Affiliation: auth.Owner, Issuer: "portal", JTI: "7c1d", User: "juliet", Took: 12345 * time.Microsecond, Text: "not in the line",
	}
}

func apiCall() audit.Call {
	return audit.Call{At: at, Key: "portal", Method: "DELETE", Path: "/api/v1/rooms/{room}", Room: "standup", Remote: "192.0.2.1", Status: 204, Took: 900 * time.Microsecond}
}

func opened(t testing.TB, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// lines returns the lines of files, each of which must be a JSON object.
func lines(t testing.TB, paths ...string) (all []map[string]any) {
	t.Helper()
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var object map[string]any
			if err := json.Unmarshal(line, &object); err != nil || line[len(line)-1] != '\n' {
				t.Fatalf("%s has the line %q: %v", path, line, err)
			}
			all = append(all, object)
		}
	}
	return all
}

// users returns which decisions there are.
func users(all []map[string]any) (names []string) {
	for _, l := range all {
		if l["what"] == "decision" {
			names = append(names, fmt.Sprint(l["user"]))
		}
	}
	return names
}

func numbered(n int) component.Report {
	r := decision()
	r.User = fmt.Sprintf("%06d", n)
	return r
}

func TestLines(t *testing.T) {
	guest := component.Report{What: component.Decided, At: at.In(time.FixedZone("", 3600)), Verdict: auth.Wait, Reason: auth.ReasonHostAbsent, Again: true}
	for want, got := range map[string][]byte{
		`{"time":"2026-11-26T09:30:00.125000Z","what":"decision","room":"standup@conference.example.com","who":"juliet@example.com","vhost":"example.com",` +
			`"issuer":"portal","jti":"7c1d","user":"juliet","verdict":"allow","reason":"host","affiliation":"owner","ms":12.345}`: audit.Decision(decision()),
		`{"time":"2026-11-26T09:30:00.125000Z","what":"decision","verdict":"wait","reason":"host-absent","ms":0,"again":true}`: audit.Decision(guest),
		`{"time":"2026-11-26T09:30:00.125000Z","what":"call","key":"portal","method":"DELETE","path":"/api/v1/rooms/{room}","room":"standup",` +
			`"remote":"192.0.2.1","status":204,"ms":0.9}`: audit.CallLine(apiCall()),
	} {
		if string(got) != want+"\n" {
			t.Errorf("the line is %s; want %s", got, want)
		}
	}
}

func TestOff(t *testing.T) {
	for _, to := range []string{"", "off"} {
		l, err := audit.Open(audit.Options{To: to})
		if err != nil || l != nil {
			t.Fatal(l, err)
		}
		l.Report(decision())
		l.Call(apiCall())
		if l.Dropped() != 0 || l.Close() != nil {
			t.Error("a log that is off does something")
		}
	}
}

func TestFile(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := opened(t, audit.Options{To: path})
	l.Report(decision())
	l.Report(component.Report{What: component.Joined, At: at})
	l.Call(apiCall())
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.Report(decision())
	if n := l.Dropped(); n != 1 {
		t.Errorf("%d lines are dropped after the end", n)
	}
	all := lines(t, path)
	if len(all) != 2 || all[0]["who"] != "juliet@example.com" || all[1]["status"] != 204.0 {
		t.Errorf("%v", all)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	// A later log goes on behind it, also if the last line is cut. The mode stays what somebody made it.
	if f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	} else if _, err = f.WriteString(`{"time":"2026-`); err != nil || f.Chmod(0o600) != nil || f.Close() != nil {
		t.Fatal(err)
	}
	l = opened(t, audit.Options{To: path})
	l.Report(decision())
	l.Close()
	text, err := os.ReadFile(path)
	parts := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err != nil || len(parts) != 4 || parts[2] != `{"time":"2026-` || !json.Valid([]byte(parts[3])) {
		t.Errorf("%s, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestOpenErrors(t *testing.T) {
	folder := t.TempDir()
	for path, says := range map[string]string{
		filepath.Join(folder, "none", "audit.jsonl"): "no such file",
		folder: "is a directory",
	} {
		if _, err := audit.Open(audit.Options{To: path}); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := audit.Open(audit.WithJournal(audit.Options{}, filepath.Join(folder, "none"))); err == nil || !strings.Contains(err.Error(), "journal") {
		t.Error(err)
	}
}

// clock is a clock that the test sets.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(at.UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) forward(d time.Duration) { c.ns.Add(int64(d)) }

// files returns the files of a folder, the oldest first and the one in use last.
func files(t testing.TB, path string) []string {
	t.Helper()
	all, err := filepath.Glob(strings.TrimSuffix(path, ".jsonl") + "-*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return append(all, path)
}

// TestSize: a file is put aside before it is larger than it may be, and only so many are kept. No line is lost but those of deleted files.
func TestSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	other := strings.TrimSuffix(path, ".jsonl") + "-notes.jsonl"
	if err := os.WriteFile(other, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const most, n = 4000, 200
	l := opened(t, audit.Options{To: path, MaxSize: most, Keep: 100})
	for i := range n {
		l.Report(numbered(i))
	}
	l.Close()
	all := files(t, path)
	all = slices.DeleteFunc(all, func(name string) bool { return name == other })
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("%06d", i))
	}
	if got := users(lines(t, all...)); !slices.Equal(got, want) || len(all) < n*200/most {
		t.Errorf("%d files have %v", len(all), got)
	}
	for _, name := range all {
		if info, err := os.Stat(name); err != nil || info.Size() > most || info.Mode() != 0o640 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	l = opened(t, audit.Options{To: path, MaxSize: most, Keep: 3})
	l.Close()
	if got := files(t, path); len(got) != 3+2 || !slices.Contains(got, other) || got[2] != all[len(all)-2] {
		t.Errorf("%v are left of %v", got, all)
	}
}

// TestAge: a file is put aside when its first line is a tenth of MaxAge old, also after a restart, and deleted when its last line is
// MaxAge old.
func TestAge(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "audit.jsonl"), newClock()
	o := audit.Options{To: path, MaxAge: 100 * time.Hour, Now: c.Now}
	write := func(n int) {
		l := opened(t, o)
		r := numbered(n)
		r.At = c.Now()
		l.Report(r)
		l.Close()
	}
	write(0)
	c.forward(9 * time.Hour)
	write(1)
	c.forward(2 * time.Hour)
	write(2)
	all := files(t, path)
	if len(all) != 2 || !slices.Equal(users(lines(t, all[0])), []string{"000000", "000001"}) || !slices.Equal(users(lines(t, path)), []string{"000002"}) {
		t.Fatalf("%v: %v", all, lines(t, all...))
	}
	c.forward(99 * time.Hour)
	write(3)
	if got := files(t, path); len(got) != 3 {
		t.Fatal(got)
	}
	c.forward(2 * time.Hour)
	write(4)
	if got := users(lines(t, files(t, path)...)); !slices.Equal(got, []string{"000002", "000003", "000004"}) {
		t.Error(got)
	}
}

// TestMoved: when somebody deletes the file or puts it aside (logrotate), lines go to a new one within a second. SIGHUP is not needed.
func TestMoved(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "audit.jsonl"), newClock()
	l := opened(t, audit.Options{To: path, Now: c.Now})
	for n, away := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.Rename(path, path+".1") },
	} {
		l.Report(numbered(n))
		eventually(t, "the line is there", func() bool {
			info, err := os.Stat(path)
			return err == nil && info.Size() > 0
		})
		if err := away(); err != nil {
			t.Fatal(err)
		}
		c.forward(audit.LookEvery)
	}
	l.Report(numbered(9))
	l.Close()
	if got := users(lines(t, path)); !slices.Equal(got, []string{"000009"}) || l.Dropped() != 0 {
		t.Error(got)
	}
}

// TestNotPutAside: a file that cannot be put aside goes on growing, and no line is lost.
func TestNotPutAside(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	// No file can get a name that is too long.
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 240)+".jsonl")
	l := opened(t, audit.Options{To: long, MaxSize: 1000, Log: zap.New(core)})
	for n := range 50 {
		l.Report(numbered(n))
	}
	l.Close()
	if got := users(lines(t, long)); len(got) != 50 || logs.FilterMessage("audit: the file cannot be put aside; it goes on growing").Len() != 1 {
		t.Errorf("%d lines; %v", len(got), logs.All())
	}
}

// TestFullDisk: while the disk is full lines wait, and then are dropped and counted. When there is room again, a line says how many, and
// each line in the file is whole.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small disk here: mounting one needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmounting %s: %v", disk, err)
		}
	})
	core, logs := observer.New(zap.InfoLevel)
	path := filepath.Join(disk, "audit.jsonl")
	l := opened(t, audit.Options{To: path, Log: zap.New(core)})
	const n = audit.Queued + 4000
	for i := range n {
		l.Report(numbered(i))
	}
	eventually(t, "lines are dropped", func() bool {
		l.Report(numbered(n))
		return l.Dropped() > 0 && logs.Len() == 1
	})
	dropped := l.Dropped()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "lines are written again", func() bool { return logs.Len() == 2 })
	l.Close()
	all := lines(t, path)
	got := users(all)
	said := 0.0
	for _, each := range all {
		if each["what"] == "dropped" {
			said += each["lines"].(float64)
		}
	}
	if said != float64(dropped) || l.Dropped() != dropped || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) < audit.Queued {
		t.Errorf("the file has %d lines and says that %v are dropped; %d are", len(got), said, dropped)
	}
}

// TestDevice: a device is neither put aside nor compared with its path.
func TestDevice(t *testing.T) {
	l := opened(t, audit.Options{To: os.DevNull, MaxSize: 10})
	l.Report(decision())
	if err := l.Close(); err != nil || l.Dropped() != 0 {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatal(info, err)
	}
	// /dev/full has never room.
	core, logs := observer.New(zap.InfoLevel)
	l = opened(t, audit.Options{To: "/dev/full", Log: zap.New(core)})
	l.Report(decision())
	eventually(t, "the log says so", func() bool { return logs.Len() == 1 })
	l.Close()
	if l.Dropped() != 1 {
		t.Error(l.Dropped())
	}
}

// TestManyWriters: any number of goroutines may report, while another usher writes the same file and both put it aside.
func TestManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	o := audit.Options{To: path, MaxSize: 100_000, Keep: 1000}
	var all sync.WaitGroup
	logs := []*audit.Log{opened(t, o), opened(t, o)}
	for n := range 8 {
		all.Go(func() {
			for i := range 500 {
				logs[n%2].Report(numbered(n*500 + i))
			}
		})
	}
	all.Wait()
	for _, l := range logs {
		if err := l.Close(); err != nil || l.Dropped() != 0 {
			t.Error(err, l.Dropped())
		}
	}
	got := users(lines(t, files(t, path)...))
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 4000 {
		t.Errorf("%d lines", len(got))
	}
}

// TestStderr: each line comes in one piece, also among the lines of others.
func TestStderr(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=200")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err, string(text))
	}
	n := 0
	for line := range bytes.Lines(text) {
		if json.Valid(line) {
			n++
		}
	}
	if err != nil || n != 200 {
		t.Errorf("%d lines of 200: %s, %v", n, text, err)
	}
}

func toStderr(count string) {
	var n int
	fmt.Sscan(count, &n)
	l, err := audit.Open(audit.Options{To: audit.Stderr})
	if err != nil {
		os.Exit(1)
	}
	var others sync.WaitGroup
	others.Go(func() {
		for range n {
			fmt.Fprintln(os.Stderr, "another line")
		}
	})
	for i := range n {
		l.Report(numbered(i))
	}
	others.Wait()
	if l.Close() != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// TestJournal: journald gets each line as a message with fields. When it was restarted, lines arrive again.
func TestJournal(t *testing.T) {
	folder, err := os.MkdirTemp("", "j") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "socket")
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	next := func(c *net.UnixConn) map[string]string {
		b := make([]byte, 1<<16)
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return fields(t, b[:n])
	}
	c := listen()
	l := opened(t, audit.WithJournal(audit.Options{}, socket))
	l.Report(decision())
	got := next(c)
	for name, want := range map[string]string{
		"PRIORITY": "6", "SYSLOG_IDENTIFIER": "usher", "USHER_WHAT": "decision", "USHER_ROOM": "standup@conference.example.com",
		"USHER_WHO": "juliet@example.com", "USHER_VERDICT": "allow", "USHER_MS": "12.345",
		"MESSAGE": strings.TrimSpace(string(audit.Decision(decision()))),
	} {
		if got[name] != want {
			t.Errorf("%s is %q; want %q", name, got[name], want)
		}
	}
	c.Close()
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	l.Call(apiCall())
	c = listen()
	defer c.Close()
	if got := next(c); got["USHER_WHAT"] != "call" || got["USHER_STATUS"] != "204" {
		t.Errorf("%v", got)
	}
	l.Close()
	if l.Dropped() != 0 {
		t.Errorf("%d lines are dropped", l.Dropped())
	}
}

// fields reads a datagram as journald does (systemd's JOURNAL_NATIVE_PROTOCOL.md).
func fields(t testing.TB, b []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatalf("%q ends without a newline", b)
		}
		if name, value, is := bytes.Cut(line, []byte("=")); is {
			all[string(name)], b = string(value), rest
			continue
		}
		n := binary.LittleEndian.Uint64(rest)
		all[string(line)], b = string(rest[8:8+n]), rest[8+n+1:]
	}
	return all
}

// FuzzLine: whatever somebody writes, a line is one line for every program, is JSON, and says what was written.
func FuzzLine(f *testing.F) {
	f.Add("juliet", "portal", "7c1d", "/api/v1/rooms/{room}")
	f.Add("a\nb\r\n", "\u2028\u2029\u0085", "\x00\x1b[2J\x7f", `"\`)
	f.Add("\xff\xfe\xed\xa0\x80", "\U000e0001\u202e\u200d", strings.Repeat("ä", 3000), "</script>")
	f.Fuzz(func(t *testing.T, user, issuer, jti, path string) {
		r := decision()
		r.User, r.Issuer, r.JTI, r.VHost = user, issuer, jti, path
		c := apiCall()
		c.Key, c.Path, c.Room, c.Who = user, path, issuer, jti
		for _, line := range [][]byte{audit.Decision(r), audit.CallLine(c)} {
			text, whole := strings.CutSuffix(string(line), "\n")
			if !whole || !utf8.ValidString(text) || !json.Valid([]byte(text)) || len(text) > 1<<16 {
				t.Fatalf("%q", line)
			}
			for _, r := range text {
				if !unicode.IsPrint(r) {
					t.Fatalf("%q has %q", line, r)
				}
			}
		}
		var back struct{ User, Issuer, JTI, VHost string }
		if err := json.Unmarshal(audit.Decision(r), &back); err != nil {
			t.Fatal(err)
		}
		for _, each := range [][2]string{{back.User, user}, {back.Issuer, issuer}, {back.JTI, jti}, {back.VHost, path}} {
			if want := strings.ToValidUTF8(each[1], "\ufffd"); len(each[1]) < 1000 && utf8.ValidString(each[1]) && each[0] != want {
				t.Errorf("%q became %q", each[1], each[0])
			}
		}
		if got := fields(t, audit.Datagram(r)); len(user) < 1000 && got["USHER_USER"] != user {
			t.Errorf("%q became %q", user, got["USHER_USER"])
		}
	})
}

// BenchmarkDecision measures the CPU time that a line costs in all, in the caller and behind. Times 1,000 it is the share of a CPU at 1,000
// decisions a second.
func BenchmarkDecision(b *testing.B) {
	l := opened(b, audit.Options{To: filepath.Join(b.TempDir(), "audit.jsonl"), MaxSize: 10 << 20, Keep: 2})
	r := decision()
	b.ReportAllocs()
	before, n := cpu(b), 0
	for ; b.Loop(); n++ {
		l.Report(r)
		for n%4096 == 4095 && l.Waiting() > 0 { // it must not be dropped
			time.Sleep(time.Millisecond)
		}
	}
	if err := l.Close(); err != nil || l.Dropped() > 0 {
		b.Fatal(err, l.Dropped())
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/op")
}

// cpu returns the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
