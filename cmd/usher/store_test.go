package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/config"
)

// TestKeptSize checks that store.max_size bounds the store, on disk and in memory, and that the log warns before the store is full.
func TestKeptSize(t *testing.T) {
	for name, c := range map[string]config.Store{
		"file":   {Path: filepath.Join(t.TempDir(), "usher.db"), MaxSize: 8 << 20},
		"memory": {Memory: true, MaxSize: 8 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			core, log := observer.New(zap.WarnLevel)
			s, err := openStore(&config.Config{Store: c}, nil, zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var some []store.Record
			for n := 0; err == nil && n < 10_000; n++ {
				some = append(some, store.Record{Kind: store.KindHeld, Key: fmt.Sprint(n), Value: make([]byte, 1000), End: time.Now().Add(time.Hour)})
				if len(some) == 20 {
					err = s.Put(t.Context(), some...)
					some = nil
				}
			}
			if !errors.Is(err, store.ErrFull) {
				t.Errorf("the store is not full: %v", err)
			}
			if n := log.FilterMessage("the store is nearly full; raise store.max_size").Len(); n != 1 {
				t.Errorf("the log warns %d times", n)
			}
		})
	}
}
