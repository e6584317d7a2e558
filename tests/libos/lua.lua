-- SPDX-License-Identifier: MIT
--
-- A test of lua5.4 built by musl's compiler: the package brings none. Each check prints
-- "ok NAME" or "FAIL NAME".
local function check(name, condition)
    print((condition and "ok " or "FAIL ") .. name)
end

local function fibonacci(n)
    return n < 2 and n or fibonacci(n - 1) + fibonacci(n - 2)
end
check("recursion", fibonacci(20) == 6765)
check("integers", 7 // 2 == 3 and 7 % -3 == -2 and 1 << 62 == 4611686018427387904)
check("floats", 2 ^ 10 == 1024.0 and math.floor(-3.5) == -4 and 0.1 + 0.2 ~= 0.3)
check("strings", ("exo"):rep(3) == "exoexoexo" and ("a,b,c"):gsub(",", ";") == "a;b;c")
check("format", string.format("%5.2f|%-4d|%x", 3.14159, 42, 255) == " 3.14|42  |ff")
check("pack", string.unpack("<I4", string.pack("<I4", 0x12345678)) == 0x12345678)
check("patterns", ("key = value"):match("(%w+)%s*=%s*(%w+)") == "key")

local list = {}
for i = 1, 20000 do
    list[i] = (i * 7919) % 20011
end
table.sort(list)
local sorted = true
for i = 2, #list do
    sorted = sorted and list[i - 1] <= list[i]
end
check("sort", sorted)

local producer = coroutine.wrap(function()
    for i = 1, 100 do
        coroutine.yield(i)
    end
end)
local sum = 0
for i in producer do
    sum = sum + i
end
check("coroutines", sum == 5050)

local right, message = pcall(error, { code = 7 })
check("errors", not right and message.code == 7)
check("deep_recursion", not pcall(function()
    local function deep()
        return 1 + deep()
    end
    return deep()
end))

local kept = {}
for i = 1, 200000 do
    kept[i % 100] = { i, tostring(i) }
end
collectgarbage()
check("garbage", collectgarbage("count") < 20000)

local name = os.tmpname()
local file = assert(io.open(name, "w"))
for i = 1, 1000 do
    file:write(i, "\n")
end
file:close()
local lines = 0
for line in io.lines(name) do
    lines = lines + tonumber(line)
end
check("files", lines == 500500)
check("remove", os.remove(name) and not io.open(name))
local pipe = io.popen("echo from a pipe; exit 3")
check("popen", pipe:read("a") == "from a pipe\n")
local _, how, code = pipe:close()
check("popen_status", how == "exit" and code == 3)
check("execute", select(3, os.execute("exit 5")) == 5)
check("environment", os.getenv("HOME") ~= nil)
check("clock", os.clock() > 0 and os.time() > 1600000000)
check("date", os.date("!%Y-%m-%d", 86400) == "1970-01-02")
