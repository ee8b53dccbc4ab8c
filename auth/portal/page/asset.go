package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// asset is a file that the pages load. Its address has its hash, so that browsers may keep it for as long as they like.
type asset struct {
	kind    string // Content-Type
	content []byte
	hash    string
	address string
}

var (
	style  = newAsset("/style.css", "text/css; charset=utf-8", pageCSS)
	script = newAsset("/portal.js", "text/javascript; charset=utf-8", pageJS)
)

func newAsset(path, kind string, content []byte) asset {
	sum := sha256.Sum256(content)
	hash := base64.RawURLEncoding.EncodeToString(sum[:12])
	return asset{kind: kind, content: content, hash: hash, address: path + "?" + hash}
}

// Asset serves /style.css and /portal.js.
func (p *Pages) Asset(w http.ResponseWriter, r *http.Request) {
	var a asset
	switch r.URL.Path {
	case "/style.css":
		a = style
	case "/portal.js":
		a = script
	default:
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Another usher, of another version, may have made the page: what it asks for is not kept.
	if h.Set("Cache-Control", "no-cache"); r.URL.RawQuery == a.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.content))
}
