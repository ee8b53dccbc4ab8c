package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// file writes lines to a file, puts it aside when it is large or old, and deletes old ones. (gopkg.in/natefinch/lumberjack.v2 was
// considered: it does not rotate by age, leaves a goroutine, and does not see that the file was moved or that a write was cut.)
type file struct {
	o Options

	f       *os.File  // nil after an error
	regular bool      // a device or a pipe is never put aside
	size    int64     // of the file
	since   time.Time // its first line
	looked  time.Time // when the path was last compared with the file
	stays   time.Time // until then the file is not put aside, because that has just failed
	torn    bool      // the file ends in the middle of a line
}

// parts is the number of files that MaxAge is spread over, where they are small. So a line is kept a tenth longer than MaxAge at most.
const parts = 10

// lookEvery is the interval at which usher looks whether the file was moved or deleted.
const lookEvery = time.Second

func openFile(o Options) (sink, error) {
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	f := &file{o: o}
	if err := f.open(); err != nil {
		return nil, err
	}
	f.tend()
	return f, nil
}

// open opens the file, and creates it if there is none.
func (f *file) open() error {
	opened, err := os.OpenFile(f.o.To, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if opened, err = os.OpenFile(f.o.To, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640); err == nil {
			err = opened.Chmod(0o640) // whatever the umask is
		}
	}
	var info fs.FileInfo
	if err == nil {
		info, err = opened.Stat()
	}
	if err != nil {
		if opened != nil {
			_ = opened.Close()
		}
		return fmt.Errorf("audit: the file cannot be written: %w; let usher write into its folder", err)
	}
	f.f, f.regular, f.size, f.looked = opened, info.Mode().IsRegular(), info.Size(), f.o.Now()
	f.since, f.torn = f.o.Now(), false
	if f.regular && f.size > 0 {
		f.read()
	}
	return nil
}

// read learns from the file when its first line was written, and whether its last one is whole.
func (f *file) read() {
	r, err := os.Open(f.o.To)
	if err != nil {
		return // usher may write it, and not read
	}
	defer r.Close()
	last := make([]byte, 1)
	if _, err := r.ReadAt(last, f.size-1); err == nil {
		f.torn = last[0] != '\n'
	}
	first, _ := bufio.NewReaderSize(r, 64<<10).ReadSlice('\n')
	var begins struct{ Time time.Time }
	if err := json.Unmarshal(first, &begins); err == nil && begins.Time.Before(f.since) {
		f.since = begins.Time
	}
}

// write implements sink.
func (f *file) write(lines [][]byte) (n int, err error) {
	for n < len(lines) {
		if err := f.ready(len(lines[n])); err != nil {
			return n, err
		}
		end, size := n, f.size
		for end < len(lines) && (end == n || !f.regular || size+int64(len(lines[end])) <= f.o.MaxSize) {
			size += int64(len(lines[end]))
			end++
		}
		done, err := f.append(lines[n:end])
		n += done
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// append writes lines to the file, and returns how many are whole. Those that are not are taken back.
func (f *file) append(lines [][]byte) (whole int, err error) {
	text := bytes.Join(lines, nil)
	if f.torn {
		text = append([]byte("\n"), text...)
	}
	n, err := f.f.Write(text)
	before := f.size
	f.size += int64(n)
	if err == nil {
		f.torn = false
		return len(lines), nil
	}
	kept := bytes.LastIndexByte(text[:n], '\n') + 1
	whole = bytes.Count(text[:kept], []byte("\n"))
	if f.torn && whole > 0 {
		whole--
	}
	f.torn = kept < n || kept == 0 && f.torn
	if kept < n && f.regular {
		// Another usher may have written behind this part; then it stays.
		if info, err := f.f.Stat(); err == nil && info.Size() == f.size && f.f.Truncate(before+int64(kept)) == nil {
			f.size, f.torn = before+int64(kept), false
		}
	}
	return whole, fmt.Errorf("audit file: %w", err)
}

// ready makes the file ready for so many bytes: it is where the path leads to, and has room.
func (f *file) ready(bytes int) error {
	now := f.o.Now()
	if f.f != nil && f.regular && now.Sub(f.looked).Abs() >= lookEvery {
		f.look(now)
	}
	if f.f == nil {
		return f.open()
	}
	if !f.full(bytes, now) {
		return nil
	}
	if f.look(now); f.f == nil { // another usher has put it aside
		return f.open()
	}
	if !f.full(bytes, now) {
		return nil
	}
	return f.rotate(now)
}

// full reports whether the file must be put aside before so many bytes are written.
func (f *file) full(bytes int, now time.Time) bool {
	old := now.Sub(f.since) >= f.o.MaxAge/parts
	return f.regular && f.size > 0 && (old || f.size+int64(bytes) > f.o.MaxSize) && !now.Before(f.stays)
}

// look closes the file if it was moved or deleted.
func (f *file) look(now time.Time) {
	f.looked = now
	here, err := f.f.Stat()
	there, err2 := os.Stat(f.o.To)
	if err != nil || err2 != nil || !os.SameFile(here, there) {
		_ = f.f.Close()
		f.f = nil
		return
	}
	f.size = here.Size()
}

// stamp is the format of the time in the name of a file that was put aside.
const stamp = "20060102T150405.000Z"

// aside returns the name of a file that is put aside now.
func (f *file) aside(now time.Time) string {
	ext := filepath.Ext(f.o.To)
	return strings.TrimSuffix(f.o.To, ext) + "-" + now.UTC().Format(stamp) + ext
}

// stayFor is how long the file stays after it could not be put aside.
const stayFor = time.Minute

// rotate puts the file aside and begins a new one.
func (f *file) rotate(now time.Time) error {
	name := f.aside(now)
	for _, err := os.Lstat(name); err == nil; _, err = os.Lstat(name) { // two in one millisecond
		now = now.Add(time.Millisecond)
		name = f.aside(now)
	}
	if err := os.Rename(f.o.To, name); err != nil {
		f.stays = now.Add(stayFor)
		f.o.Log.Error("audit: the file cannot be put aside; it goes on growing", zap.Error(err))
		return nil
	}
	_ = f.f.Close() // each line was written already
	f.f = nil
	f.prune(now)
	return f.open()
}

// prune deletes files that were put aside and are too old, or too many.
func (f *file) prune(now time.Time) {
	folder, name := filepath.Split(f.o.To)
	ext := filepath.Ext(name)
	entries, err := os.ReadDir(filepath.Clean(folder + "."))
	if err != nil {
		f.o.Log.Warn("audit: old files cannot be looked for", zap.Error(err))
		return
	}
	type old struct {
		name string
		at   time.Time
	}
	var all []old
	for _, e := range entries {
		text, is := strings.CutPrefix(e.Name(), strings.TrimSuffix(name, ext)+"-")
		text, is2 := strings.CutSuffix(text, ext)
		if at, err := time.Parse(stamp, text); is && is2 && err == nil {
			all = append(all, old{e.Name(), at})
		}
	}
	slices.SortFunc(all, func(a, b old) int { return b.at.Compare(a.at) })
	for n, each := range all {
		if n < f.o.Keep && now.Sub(each.at) < f.o.MaxAge {
			continue
		}
		if err := os.Remove(filepath.Join(folder, each.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.o.Log.Warn("audit: an old file cannot be deleted", zap.Error(err))
		}
	}
}

// tend implements sink.
func (f *file) tend() {
	if !f.regular {
		return
	}
	now := f.o.Now()
	if err := f.ready(0); err == nil {
		f.prune(now)
	}
}

// close implements sink.
func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}
