-- What mod_webdav of lighttpd does not do itself. Runs before each request; a number that it returns is the answer.
package.cpath = "/hoody/kits/files/lib/lua/?.so"

local DATABASE = "/var/lib/hoody-files/webdav.db"
local USES_LOCKS = {LOCK = 1, UNLOCK = 1, PUT = 1, DELETE = 1, MOVE = 1, COPY = 1, MKCOL = 1, PROPPATCH = 1, PROPFIND = 1}

-- mod_webdav takes the hour of the day for the time, so that no lock would ever end (1.4.79, and 1.4.85 still). It writes a
-- lock's seconds plus that hour; the triggers keep beside it when the lock really ends.
local SCHEMA = [[
CREATE TABLE IF NOT EXISTS lock_ends (locktoken TEXT PRIMARY KEY, second INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS lock_taken AFTER INSERT ON locks BEGIN
  INSERT OR REPLACE INTO lock_ends VALUES (NEW.locktoken, unixepoch() + NEW.timeout - CURRENT_TIME);
END;
CREATE TRIGGER IF NOT EXISTS lock_refreshed AFTER UPDATE OF timeout ON locks BEGIN
  INSERT OR REPLACE INTO lock_ends VALUES (NEW.locktoken, unixepoch() + NEW.timeout - CURRENT_TIME);
END;
CREATE TRIGGER IF NOT EXISTS lock_released AFTER DELETE ON locks BEGIN
  DELETE FROM lock_ends WHERE locktoken = OLD.locktoken;
END;
DELETE FROM locks WHERE locktoken IN (SELECT locktoken FROM lock_ends WHERE second <= unixepoch());
]]

-- Ends the locks whose time is over. True if there is a lock of this token, or none was given.
local function end_locks(token)
  local sqlite = require("lsqlite3")
  local db = assert(sqlite.open(DATABASE, sqlite.OPEN_READWRITE))
  local held = not token
  local done = db:exec(SCHEMA)
  if done == sqlite.OK and token then
    local found = db:prepare("SELECT 1 FROM locks WHERE locktoken = ?")
    found:bind(1, token)
    held = found:step() == sqlite.ROW
    found:finalize()
  end
  local reason = db:errmsg()
  db:close()
  assert(done == sqlite.OK, reason)
  return held
end

local method, header = lighty.r.req_attr["request.method"], lighty.r.req_header

if method == "PUT" and header["Content-Range"] then
  return 400
end

-- Behind a proxy that ends TLS a client names https and the proxy's host, neither of which lighttpd knows: the path counts.
local destination = header["Destination"]
local path = destination and destination:match("^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]+(/.*)$")
if path then
  header["Destination"] = path
end

-- A lock has 600 seconds at most, and mod_webdav is told one plain value: it reads few of those that RFC 4918 allows as it should.
if method == "LOCK" and header["Timeout"] then
  local seconds = header["Timeout"]:match("[Ss]econd%-(%d+)")
  header["Timeout"] = "Second-" .. (seconds and #seconds <= 3 and seconds or "600")
end

if USES_LOCKS[method] then
  -- A LOCK without a body refreshes one; mod_webdav says 200 even if it is no more.
  local refreshes = method == "LOCK" and (header["Content-Length"] or "0") == "0" and not header["Transfer-Encoding"]
  local token = refreshes and header["If"] and header["If"]:match("^%(<([^>]*)>%)$")
  if not end_locks(token) then
    return 412
  end
end
