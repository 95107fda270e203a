// What one would write with npm's ws: one origin connection, each message sent to all clients. PORT of the origin.
const {WebSocket, WebSocketServer} = require('ws')

const origin = new WebSocket(`ws://127.0.0.1:${process.argv[2]}/`, {perMessageDeflate: false})
origin.on('open', () => {
  const server = new WebSocketServer({host: '127.0.0.1', port: 0, perMessageDeflate: false, backlog: 4096})
  server.on('listening', () => console.log(server.address().port))
  origin.on('message', (data, binary) => {
    for (const client of server.clients) client.send(data, {binary})
  })
})
origin.on('close', () => process.exit(0))
