package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	// journalEvery is how long changes stay in the journal alone. A machine that loses power may lose the changes of that time.
	journalEvery = time.Second
	// journalMax caps the bytes of the journal. Deletes may use twice as many, so that a full disk can be helped.
	journalMax = 1 << 20
	// entryHead is the bytes of an entry before its changes: their length, a CRC-32C of what follows, and the number of the journal.
	entryHead = 4 + 4 + 8
	// sector is the least that a disk writes at once.
	sector = 512
)

// brief reports whether records of a kind are put through the journal. They are written whenever somebody joins. If the machine itself
// stops, people connect anew anyway.
func brief(k Kind) bool { return k == KindGrant || k == KindSession }

// item is a change of a record: its new value, as the file has it, or nil if it is deleted.
type item struct {
	recordKey
	value []byte
}

type recordKey struct {
	kind Kind
	key  string
}

// changed are changes that are not in the file of the store yet, and the bytes that they may use there.
type changed struct {
	items map[recordKey][]byte
	bytes map[Kind]int64
}

func newChanged() *changed {
	return &changed{make(map[recordKey][]byte), make(map[Kind]int64)}
}

func (c *changed) add(i item) {
	c.items[i.recordKey] = i.value
	if i.value != nil {
		c.bytes[i.kind] += fileSize(i.key, i.value)
	}
}

// gone returns the changes that delete.
func (c *changed) gone() *changed {
	gone := newChanged()
	for key, value := range c.items {
		if value == nil {
			gone.add(item{key, nil})
		}
	}
	return gone
}

// journal stands in front of the file of a store: what is brief is written at its end, without waiting for the disk, and so outlives the
// process. A checkpoint writes all of it into the file, together with the next change that waits for the disk, or after journalEvery.
//
// An entry has one or more changes that belong together, after a head; see entryHead. A checkpoint begins a new number, and the file of
// the store has the number of the first entries that it lacks. So a checkpoint need not empty the journal while others write to it, and a
// journal of another file, such as of one that a backup has replaced, means nothing.
type journal struct {
	path string
	file *os.File
	due  *time.Timer // for the next checkpoint

	mu     sync.Mutex
	size   int64 // of the entries in the file
	number uint64
	waits  *changed       // what the next checkpoint writes
	moves  *changed       // what is being written by one
	left   map[Kind]int64 // bytes that each kind has left, at least
	closed bool
	buffer []byte
}

// openJournal opens the journal of the store at a path, which has the lock of the store. It returns the changes that the file lacks.
func openJournal(path string, number uint64) (j *journal, lacks []item, err error) {
	j = &journal{path: path + "-journal", waits: newChanged(), left: make(map[Kind]int64)}
	if j.file, err = os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, nil, openError(path, err)
	}
	content, err := os.ReadFile(j.path)
	if err != nil {
		err = openError(path, err)
	} else if lacks, err = readJournal(content, number); err != nil {
		err = fmt.Errorf("store %s: the journal beside it, %s, is damaged (%w); move it away: usher then starts without the last "+
			"second of what it had written", path, j.path, err)
	}
	if err != nil {
		return nil, nil, errors.Join(err, j.file.Close())
	}
	return j, lacks, nil
}

// begins empties the journal, because the file of the store lacks nothing and has this number. Due is called when a checkpoint is due.
func (j *journal) begins(number uint64, due func()) error {
	j.number, j.due = number, time.AfterFunc(math.MaxInt64, due)
	return j.file.Truncate(0)
}

// firstNumber returns a number that no other journal has.
func firstNumber() uint64 { return rand.Uint64() | 1<<63 }

// take writes changes to the journal, all or none, and reports whether it did. It does not if one is not brief, or there may be no room.
func (j *journal) take(items []item) bool {
	bytes, most := make(map[Kind]int64, 2), int64(journalMax)*2
	for _, i := range items {
		if !brief(i.kind) || i.value == nil && i.kind == KindSession { // a logout must last
			return false
		}
		if i.value != nil {
			bytes[i.kind] += fileSize(i.key, i.value)
			most = journalMax
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for k, n := range bytes {
		if n > j.left[k] {
			return false
		}
	}
	j.buffer = appendEntry(j.buffer[:0], j.number, items)
	if j.closed || len(items) == 0 || j.size+int64(len(j.buffer)) > most {
		return false
	}
	// After an error the next entry is written over what is there of this one.
	if _, err := j.file.WriteAt(j.buffer, j.size); err != nil {
		return false
	}
	j.size += int64(len(j.buffer))
	if len(j.waits.items) == 0 {
		j.due.Reset(journalEvery)
	}
	for _, i := range items {
		j.waits.add(i)
	}
	for k, n := range bytes {
		j.left[k] -= n
	}
	return true
}

// get returns what is to be the value of a record, and whether it is known here.
func (j *journal) get(key recordKey) (value []byte, known bool) {
	if !brief(key.kind) {
		return nil, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range []*changed{j.waits, j.moves} {
		if c != nil {
			if value, known = c.items[key]; known {
				return value, true
			}
		}
	}
	return nil, false
}

// all returns what get returns for the records of a kind.
func (j *journal) all(k Kind) map[string][]byte {
	all := make(map[string][]byte)
	if !brief(k) {
		return all
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range []*changed{j.moves, j.waits} {
		if c == nil {
			continue
		}
		for key, value := range c.items {
			if key.kind == k {
				all[key.key] = value
			}
		}
	}
	return all
}

// move begins a checkpoint. It returns what to write into the file, nil if nothing waits, and the number that the file then has.
func (j *journal) move() (*changed, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waits.items) == 0 {
		return nil, j.number
	}
	j.moves, j.waits = j.waits, newChanged()
	j.number++
	return j.moves, j.number
}

// moved ends a checkpoint. If it was successful, it is told how many bytes the kinds have left in the file.
func (j *journal) moved(successful bool, left map[Kind]int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case successful:
		j.moves, j.left = nil, left
		for k, n := range j.waits.bytes {
			j.left[k] -= n
		}
		if len(j.waits.items) == 0 && j.size > 0 && j.file.Truncate(0) == nil {
			j.size = 0
		}
	case j.moves != nil:
		for key, value := range j.waits.items {
			j.moves.add(item{key, value})
		}
		j.waits, j.moves = j.moves, nil
	}
	if len(j.waits.items) > 0 && !j.closed {
		j.due.Reset(journalEvery)
	}
}

// ends has the journal take nothing more.
func (j *journal) ends() {
	j.due.Stop()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

// close closes the journal, and removes it if the file of the store lacks nothing.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.file.Close()
	if len(j.waits.items) == 0 {
		if gone := os.Remove(j.path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	j.waits = newChanged()
	return err
}

// appendEntry appends an entry to b.
func appendEntry(b []byte, number uint64, items []item) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint64(append(b, make([]byte, 8)...), number)
	for _, i := range items {
		b = appendPart(appendPart(appendPart(b, string(i.kind)), i.key), i.value)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-entryHead))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

func appendPart[T text](b []byte, part T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// readJournal returns the changes that a journal has for a file with this number, in order. The end of a journal may be torn. A machine
// that loses power may have written a later part of the journal and not an earlier one, which is then zeros: the end begins there.
func readJournal(b []byte, number uint64) (all []item, err error) {
	for at := 0; at < len(b); {
		n := entryLen(b[at:])
		if n == 0 {
			for later := at + 1; later < len(b); later++ {
				if lacking(b[later:], number) && entryLen(b[later:]) > 0 {
					if bytes.Contains(b[at:later], make([]byte, sector)) {
						return all, nil
					}
					return nil, fmt.Errorf("%d bytes from byte %d on", later-at, at)
				}
			}
			return all, nil
		}
		if lacking(b[at:], number) {
			if all, err = appendItems(all, b[at+entryHead:at+n]); err != nil {
				return nil, fmt.Errorf("%w, at byte %d", err, at)
			}
		}
		at += n
	}
	return all, nil
}

// entryLen returns the length of the entry with which b begins, or 0 if it is not whole.
func entryLen(b []byte) int {
	if len(b) < entryHead {
		return 0
	}
	n := entryHead + uint64(binary.BigEndian.Uint32(b))
	if n > uint64(len(b)) || binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(b[8:n], castagnoli) {
		return 0
	}
	return int(n)
}

// lacking reports whether a file with this number lacks the entry with which b begins.
func lacking(b []byte, number uint64) bool {
	return len(b) >= entryHead && binary.BigEndian.Uint64(b[8:])-number < 1<<32
}

// appendItems appends the changes of an entry.
func appendItems(all []item, b []byte) ([]item, error) {
	for len(b) > 0 {
		var parts [3][]byte
		for n := range parts {
			length, used := binary.Uvarint(b)
			if used <= 0 || length > uint64(len(b)-used) {
				return nil, errDamaged
			}
			parts[n], b = b[used:][:length:length], b[used:][length:]
		}
		i := item{recordKey{Kind(parts[0]), string(parts[1])}, bytes.Clone(parts[2])}
		if known(i.kind) != nil || i.key == "" || len(i.key) > MaxKey {
			return nil, errDamaged
		}
		if len(i.value) == 0 {
			i.value = nil
		} else if r, err := decode(i.key, i.value); err != nil || len(r.Value) > MaxValue {
			return nil, errDamaged
		}
		all = append(all, i)
	}
	return all, nil
}
