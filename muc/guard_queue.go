package muc

import (
	"container/heap"
	"time"
)

// turn is when something in a queue is due, and its place there.
type turn struct {
	due time.Time // zero: at once
	nth int       // in the queue, from one; zero if it is in none
}

func (t *turn) place() *turn { return t }

// queue is a heap of what waits until it is due, the earliest first. So what is due is found in the same time, however much waits.
type queue[T interface{ place() *turn }] []T

func (l queue[T]) Len() int           { return len(l) }
func (l queue[T]) Less(i, j int) bool { return l[i].place().due.Before(l[j].place().due) }
func (l queue[T]) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].place().nth, l[j].place().nth = i+1, j+1
}
func (l *queue[T]) Push(x any) { *l = append(*l, x.(T)); x.(T).place().nth = len(*l) }
func (l *queue[T]) Pop() any {
	var none T
	last := len(*l) - 1
	x := (*l)[last]
	(*l)[last] = none
	*l = (*l)[:last]
	x.place().nth = 0
	return x
}

// put puts something into the queue that is in no other, or moves it there. It reports whether that is first in the queue now.
func (l *queue[T]) put(x T, due time.Time) (first bool) {
	t := x.place()
	if t.due = due; t.nth == 0 {
		heap.Push(l, x)
	} else {
		heap.Fix(l, t.nth-1)
	}
	return t.nth == 1
}

// out takes something out of the queue if it is there.
func (l *queue[T]) out(x T) {
	if t := x.place(); t.nth > 0 {
		heap.Remove(l, t.nth-1)
	}
}

// take takes the first one out of the queue if it is due.
func (l *queue[T]) take(now time.Time) (x T, is bool) {
	if len(*l) == 0 || now.Before((*l)[0].place().due) {
		return x, false
	}
	return heap.Pop(l).(T), true
}

// first returns when the first one in the queue is due, or zero if the queue is empty.
func (l queue[T]) first() time.Time {
	if len(l) == 0 {
		return time.Time{}
	}
	return l[0].place().due
}
