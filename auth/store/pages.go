package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt trusts its file. A page that is referenced twice, or lies beyond the end, makes it panic or overwrite records, often in the
// middle of a later Put and in a goroutine of its own, where nobody can recover. (Its own tx.Check reads pages in the same way.) So
// usher reads the file first, without bbolt, as bytes.
//
// The layout is that of bbolt v1.5 (internal/common: meta.go, page.go, bucket.go; node.go writes pages). Numbers have the byte order
// of the machine. Pages 0 and 1 are headers; of those with a right checksum the one with the higher transaction counts. It names the
// root page of a tree of buckets. A page has a head of 16 bytes, then an element of 16 bytes for each entry, then keys and values
// without gaps. An entry of a branch page is the first key of a page below; an entry of a leaf page is a record or a bucket. A
// bucket is 16 bytes: its root page and a number. If the root page is 0 the bucket's only page follows.

const (
	headLen, elementLen = 16, 16
	bucketLen           = 16
	metaLen             = 64

	branchPage, leafPage, freePage = 0x01, 0x02, 0x10

	metaMagic, metaVersion = 0xED0CDAED, 2
	noFreePage             = ^uint64(0)
)

var order = binary.NativeEndian

// pages checks the pages of a file.
type pages struct {
	file io.ReaderAt
	size int    // of a page
	end  uint64 // the first page that is not in use
	seen []bool // the pages that something refers to
}

// entry is an entry of a leaf page.
type entry struct {
	key, value []byte
	bucket     bool
}

// checkPages checks a bbolt file of this length with pages of pageSize, both in bytes. It calls found with the entries of the
// outermost bucket, in order, each before it checks what follows. The caller keeps others from writing the file.
func checkPages(file io.ReaderAt, length int64, pageSize int, found func(*pages, entry) error) error {
	if pageSize < 1<<10 || pageSize > 1<<24 || pageSize&(pageSize-1) != 0 {
		return fmt.Errorf("a page of %d bytes", pageSize)
	}
	p := &pages{file: file, size: pageSize}
	m, err := p.meta(length)
	if err != nil {
		return err
	}
	p.end = m.end
	p.seen = make([]bool, p.end)
	p.seen[0], p.seen[1] = true, true
	if err := p.tree(m.root, func(e entry) error { return found(p, e) }); err != nil {
		return err
	}
	return p.free(m.free)
}

// meta is a header of the file: where its tree begins, where its list of free pages is, and where it ends.
type meta struct{ root, free, end, tx uint64 }

func (p *pages) meta(length int64) (meta, error) {
	var last *meta
	for n := range int64(2) {
		b := make([]byte, metaLen)
		if _, err := p.file.ReadAt(b, n*int64(p.size)+headLen); err != nil {
			return meta{}, err
		}
		sum := fnv.New64a()
		sum.Write(b[:metaLen-8])
		if order.Uint32(b) != metaMagic || order.Uint32(b[4:]) != metaVersion || order.Uint64(b[metaLen-8:]) != sum.Sum64() {
			continue // the machine stopped in the middle of a write
		}
		m := meta{root: order.Uint64(b[16:]), free: order.Uint64(b[32:]), end: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}
		if size := order.Uint32(b[8:]); int64(size) != int64(p.size) {
			return meta{}, fmt.Errorf("pages of %d bytes and of %d", p.size, size)
		}
		if last == nil || m.tx > last.tx {
			last = &m
		}
	}
	switch {
	case last == nil:
		return meta{}, errors.New("both headers are damaged")
	case last.end < 3 || last.end > uint64(length)/uint64(p.size):
		return meta{}, fmt.Errorf("%d pages of %d are there", length/int64(p.size), last.end)
	}
	return *last, nil
}

// page reads a page, and notes that it is in use.
func (p *pages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, fmt.Errorf("page %d is not in the file, which has %d", id, p.end)
	}
	head := make([]byte, headLen)
	if _, err := p.file.ReadAt(head, int64(id)*int64(p.size)); err != nil {
		return nil, err
	}
	if order.Uint64(head) != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, order.Uint64(head))
	}
	more := uint64(order.Uint32(head[12:]))
	if more >= p.end-id {
		return nil, fmt.Errorf("page %d goes beyond the end", id)
	}
	for n := id; n <= id+more; n++ {
		if p.seen[n] {
			return nil, fmt.Errorf("page %d is referenced twice", n)
		}
		p.seen[n] = true
	}
	b := make([]byte, (more+1)*uint64(p.size))
	_, err := p.file.ReadAt(b, int64(id)*int64(p.size))
	return b, err
}

// tree calls found with the entries of all leaf pages below a root page, in order.
func (p *pages) tree(root uint64, found func(entry) error) error {
	var last []byte
	deep := 0 // how far all leaf pages are below the root
	var below func(id uint64, depth int) (first []byte, err error)
	below = func(id uint64, depth int) (first []byte, err error) {
		b, err := p.page(id)
		if err != nil {
			return nil, err
		}
		bad := func(what string) error { return fmt.Errorf("page %d: %s", id, what) }
		if order.Uint16(b[8:]) == branchPage {
			branches, used := readBranches(b)
			if len(branches) < 2 || p.needs(used) != len(b) {
				return nil, bad("its branches do not fit")
			}
			for _, each := range branches {
				at, err := below(each.page, depth+1)
				if err != nil {
					return nil, err
				}
				// When the page below changes, bbolt finds it by its first key. With another key it would add the page once more.
				if !bytes.Equal(at, each.key) {
					return nil, bad("a branch does not begin with its key")
				}
			}
			return branches[0].key, nil
		}
		leaves, used := readLeaves(b)
		if leaves == nil || p.needs(used) != len(b) || len(leaves) == 0 && depth > 0 {
			return nil, bad("its entries do not fit")
		}
		if last != nil && depth != deep {
			return nil, bad("it is in the wrong place")
		}
		deep = depth
		for n, e := range leaves {
			if n == 0 {
				first = e.key
			}
			if bytes.Compare(last, e.key) >= 0 {
				return nil, bad("its keys are not in order")
			}
			last = e.key
			if err := found(e); err != nil {
				return nil, err
			}
		}
		return first, nil
	}
	_, err := below(root, 0)
	return err
}

// needs returns the size of the pages that so many bytes need.
func (p *pages) needs(used int) int { return (used + p.size - 1) / p.size * p.size }

// bucket calls found with the entries of a bucket, in order, and returns the bucket's number.
func (p *pages) bucket(value []byte, found func(entry) error) (number uint64, err error) {
	if len(value) < bucketLen {
		return 0, errors.New("a bucket is cut off")
	}
	root, number := order.Uint64(value), order.Uint64(value[8:])
	if root != 0 {
		if len(value) != bucketLen {
			return 0, errors.New("a bucket is too long")
		}
		return number, p.tree(root, found)
	}
	b := value[bucketLen:]
	if len(b) < headLen {
		return 0, errors.New("a bucket is cut off")
	}
	leaves, used := readLeaves(b)
	if leaves == nil || used != len(b) || order.Uint64(b) != 0 || order.Uint32(b[12:]) != 0 {
		return 0, errors.New("the entries of a bucket do not fit")
	}
	var last []byte
	for _, e := range leaves {
		if e.bucket || bytes.Compare(last, e.key) >= 0 {
			return 0, errors.New("the keys of a bucket are not in order")
		}
		last = e.key
		if err := found(e); err != nil {
			return 0, err
		}
	}
	return number, nil
}

// free checks the list of free pages, if there is one. usher's files have none, unless bbolt has just created or compacted them.
func (p *pages) free(at uint64) error {
	if at == noFreePage {
		return nil
	}
	b, err := p.page(at)
	if err != nil {
		return err
	}
	n, ids := uint64(order.Uint16(b[10:])), b[headLen:]
	if n == 0xFFFF { // more than fit into two bytes
		n, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(b[8:]) != freePage || n > uint64(len(ids))/8 {
		return fmt.Errorf("page %d: its list does not fit", at)
	}
	for i := range n {
		id := order.Uint64(ids[8*i:])
		if id >= p.end || p.seen[id] {
			return fmt.Errorf("page %d is free and in use, or free twice, or not there", id)
		}
		p.seen[id] = true
	}
	return nil
}

type branch struct {
	key  []byte
	page uint64
}

// readBranches returns the entries of a branch page and the bytes that it uses; none if they do not fit.
func readBranches(b []byte) (all []branch, used int) {
	count := int(order.Uint16(b[10:]))
	used = headLen + count*elementLen
	if used > len(b) {
		return nil, 0
	}
	for n := range count {
		at := headLen + n*elementLen
		pos, key := order.Uint32(b[at:]), order.Uint32(b[at+4:])
		if int(pos) != used-at || key == 0 || int64(key) > int64(len(b)-used) {
			return nil, 0
		}
		all = append(all, branch{b[used : used+int(key)], order.Uint64(b[at+8:])})
		used += int(key)
	}
	return all, used
}

// readLeaves returns the entries of a leaf page and the bytes that it uses; nil if it is none, or they do not fit.
func readLeaves(b []byte) (all []entry, used int) {
	count := int(order.Uint16(b[10:]))
	used = headLen + count*elementLen
	if order.Uint16(b[8:]) != leafPage || used > len(b) {
		return nil, 0
	}
	all = make([]entry, 0, count)
	for n := range count {
		at := headLen + n*elementLen
		flags, pos, key, value := order.Uint32(b[at:]), order.Uint32(b[at+4:]), order.Uint32(b[at+8:]), order.Uint32(b[at+12:])
		if flags > 1 || int(pos) != used-at || key == 0 || int64(key)+int64(value) > int64(len(b)-used) {
			return nil, 0
		}
		middle := used + int(key)
		used = middle + int(value)
		all = append(all, entry{key: b[used-int(key)-int(value) : middle], value: b[middle:used], bucket: flags == 1})
	}
	return all, used
}
