"""How a script puts a key into a body: as its last one, because the last of several equal keys counts, in
vLLM's parser, in Envoy's and in the picker's.

Parsing the body and writing it anew would change the order of a JSON schema's properties, which engines
follow. Either the text before the key leaves the parser where a key may follow, at the top level since the
body ends here, or it makes no JSON and the request is refused: a client's unclosed string ends at the key's
first quote."""

# White space may follow the closing brace, as much as a client likes.
APPEND_LUA = """
local function append(body, key, value)
  local last = body:length()
  while last > 0 do
    local first = math.max(0, last - 1024)
    local piece = body:getBytes(first, last - first)
    local place = piece:find("[^ \\t\\r\\n][ \\t\\r\\n]*$")
    if place then
      if piece:byte(place) ~= 125 then return false end
      local comma = piece:find("{[ \\t\\r\\n]*}[ \\t\\r\\n]*$") and "" or ","
      local beginning = body:getBytes(0, first + place - 1)
      body:setBytes(beginning .. comma .. '"' .. key .. '":' .. value .. "}")
      return true
    end
    last = first
  end
  return false
end
"""
