# Rails' own Action Cable, without the rest of Rails. BEAT_SECONDS is the interval of its pings, 3 by default.
require "logger"
require "action_cable"

ActionCable::Server::Connections.send(:remove_const, :BEAT_INTERVAL)
ActionCable::Server::Connections::BEAT_INTERVAL = Float(ENV.fetch("BEAT_SECONDS"))

class TicksChannel < ActionCable::Channel::Base
  def subscribed
    stream_from "ticks"
  end
end

ActionCable.server.config.tap do |config|
  config.cable = { "adapter" => "async" }
  config.disable_request_forgery_protection = true
  config.logger = Logger.new(nil)
  config.worker_pool_size = 1 # several threads would broadcast in any order
end

Thread.new do
  (1..).each do |number|
    sleep Float(ENV.fetch("TICK_MILLISECONDS")) / 1000
    ActionCable.server.broadcast("ticks", { seq: number })
  end
end

run ActionCable.server
