package serve

import "net/http"

// Method returns the method of a request, for a log or a label: "?" if it is none that HTTP has.
func Method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "?"
}

// Recorder remembers the status of an answer. One goroutine has it, as it has the ResponseWriter.
type Recorder struct {
	http.ResponseWriter
	Status int // of HTTP; 0 while nothing is written
}

// WriteHeader implements http.ResponseWriter.
func (r *Recorder) WriteHeader(status int) {
	if r.Status == 0 {
		r.Status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (r *Recorder) Write(b []byte) (int, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find what the answer can do.
func (r *Recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
