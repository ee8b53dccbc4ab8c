package ops

import (
	"context"

	"github.com/xmpp-usher/usher/pkg/serve"
)

// Run serves until ctx ends; see [serve.Run].
func Run(ctx context.Context, o Options) {
	serve.Run(ctx, serve.Options{
		Name: "metrics, health and the live page", Key: "ops.listen", Listen: o.Listen, Handler: Handler(o), Log: o.Log,
	})
}
