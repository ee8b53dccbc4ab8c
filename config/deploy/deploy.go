// Package deploy has the files that run usher beside docker-jitsi-meet, for "usher adopt" to write.
package deploy

import "embed"

// Docker has the files for the folder of docker-jitsi-meet: see deploy/README.md, "You run docker-jitsi-meet".
//
//go:embed docker/Dockerfile docker/usher.yaml docker-compose.usher.yml
var Docker embed.FS
