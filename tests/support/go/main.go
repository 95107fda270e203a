// A third-party WebSocket client (coder/websocket). Prints a line of JSON when it connects and for each message, and echoes
// small messages:
//
//	listen URL compress|plain SUBPROTOCOL...
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/coder/websocket"
)

const echoed = 100_000 // bytes; larger messages are not sent back

func say(line ...any) {
	text, err := json.Marshal(line)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	compression := websocket.CompressionDisabled
	if os.Args[2] == "compress" {
		compression = websocket.CompressionNoContextTakeover
	}
	ctx := context.Background()
	client, answer, err := websocket.Dial(ctx, os.Args[1], &websocket.DialOptions{
		Subprotocols:    os.Args[3:],
		CompressionMode: compression,
	})
	check(err)
	client.SetReadLimit(-1)
	say("open", client.Subprotocol(), answer.Header.Get("Sec-WebSocket-Extensions"))
	for {
		kind, data, err := client.Read(ctx)
		if err != nil {
			say("closed", int(websocket.CloseStatus(err)))
			return
		}
		sum := sha256.Sum256(data)
		name := map[websocket.MessageType]string{websocket.MessageText: "text", websocket.MessageBinary: "binary"}[kind]
		say(name, len(data), hex.EncodeToString(sum[:]))
		if len(data) <= echoed {
			check(client.Write(ctx, kind, data))
		}
	}
}
